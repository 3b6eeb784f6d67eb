/* The tabs a first visit opens with. */
window.gestaltExamples = [
  {
    query: `# The newest runs. Where a token is asked for,
# write this into the Headers tab below:
# { "authorization": "Bearer …" }
query Runs {
  runs(first: 10) {
    totalCount
    nodes {
      id
      name
      state
      createdAt
      progress { stage epoch epochs loss imagesPerSecond secondsLeft }
      findings { evaluation scores }
    }
    pageInfo { hasNextPage endCursor }
  }
}
`,
  },
  {
    query: `# One run with its loss curve:
# real points, at most maxPoints of them.
query Curve($id: ID!) {
  run(id: $id) {
    name
    state
    metrics(names: ["loss"], maxPoints: 200) {
      name
      sampled
      points { step value text time }
    }
    attempts { number outcome engine { name version threads } }
    artifacts { name type size url }
    log(last: 20) { time level text }
  }
}
`,
    variables: { id: 'the id of a run' },
  },
  {
    query: `# A new experiment. As a dry run it answers
# only the plan; set dryRun to false to start it.
mutation Submit($definition: JSON!, $dryRun: Boolean) {
  submitExperiment(definition: $definition, dryRun: $dryRun) {
    plan
    experiment { id }
    runs { id state }
  }
}
`,
    variables: {
      dryRun: true,
      definition: {
        version: 1,
        name: 'npid-fashion',
        tags: ['playground'],
        seed: 7,
        dataset: { name: 'fashion-mnist-12k', limit: 10000 },
        net: { name: 'small', widths: [16, 32, 64] },
        method: { name: 'npid', dimension: 128, temperature: 0.07, negatives: 'all' },
        training: {
          epochs: 1,
          batchSize: 128,
          optimizer: { name: 'sgd', learningRate: 0.03, momentum: 0.9, weightDecay: 0.0005 },
          schedule: { name: 'cosine', warmUpSteps: 50 },
          checkpointEverySteps: 100,
        },
        evaluations: [{ name: 'nearest-neighbours', k: [1, 5, 10, 20, 200], temperature: 0.1 }],
      },
    },
  },
  {
    query: `# Follows a run until it has finished.
subscription Follow($id: ID!) {
  runUpdated(id: $id) {
    state
    progress { stage epoch epochs step steps loss imagesPerSecond secondsLeft share }
    failure { code message cure }
  }
}
`,
    variables: { id: 'the id of a run' },
  },
]
