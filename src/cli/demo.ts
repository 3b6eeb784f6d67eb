import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Config } from '../config.ts'
import { installation } from '../installation.ts'
import { type Client, openClient } from './client.ts'
import { duration, type Output } from './output.ts'
import { askedToStop } from './serve.ts'
import { type Stack, startStack } from './stack.ts'
import { followRun } from './watch.ts'

const recipe = 'recipes/npid-quick.json'

interface Accuracy {
  npid: number
  rawPixels: number
  untrained: number
}

interface Result {
  experimentId: string
  runId: string
  accuracy: Accuracy
  best: Accuracy
  seconds: { ready: number; training: number; total: number }
}

interface FinishedRun {
  run: { startedAt: string; finishedAt: string; findings: { evaluation: string; scores: Record<string, number> }[] }
}

const finishedRun = 'query ($id: ID!) { run(id: $id) { startedAt finishedAt findings { evaluation scores } } }'

function accuracies(scores: Record<string, number>): { accuracy: Accuracy; best: Accuracy } {
  const score = (name: string) => {
    const value = scores[name]
    if (value === undefined) throw new Error(`the evaluation reports no score '${name}'`)
    return value
  }
  return {
    accuracy: { npid: score('accuracy'), rawPixels: score('rawPixels'), untrained: score('untrained') },
    best: { npid: score('best'), rawPixels: score('rawPixelsBest'), untrained: score('untrainedBest') },
  }
}

async function runRecipe(
  client: Client,
  output: Output,
  ready: number,
): Promise<(Omit<Result, 'seconds'> & { training: number }) | string> {
  const definition: unknown = JSON.parse(await readFile(join(installation, recipe), 'utf8'))
  const earlier = await client.query<{ experiments: { totalCount: number } }>('{ experiments { totalCount } }')
  const known = earlier.experiments.totalCount
  output.say(
    `ready in ${ready.toFixed(1)} s${known ? `, with ${known} earlier experiment${known === 1 ? '' : 's'}` : ''}`,
  )
  output.say(`  playground  ${client.url}/graphiql`)
  output.say(`  API docs    ${client.url}/docs`)
  output.say()
  const accepted = await client.post<{ experimentId: string; runIds: string[] }>('/v1/experiments', definition)
  const runId = accepted.runIds[0]
  if (!runId) throw new Error('the server accepted the experiment without a run')
  output.say(`posted ${recipe}: experiment ${accepted.experimentId}`)
  const ended = await followRun(client, runId, output.json ? process.stderr : process.stdout)
  if (ended.state !== 'succeeded') {
    const why = ended.failure ? `${ended.failure.message} (${ended.failure.cure})` : 'it was cancelled'
    return `the run ${ended.state}: ${why}; its log: ${client.url}/v1/runs/${runId}/log`
  }
  const { run } = await client.query<FinishedRun>(finishedRun, { id: runId })
  const found = run.findings.find((finding) => finding.evaluation === 'nearest-neighbours')
  if (!found) throw new Error('the run reports no nearest-neighbours finding')
  const training = (Date.parse(run.finishedAt) - Date.parse(run.startedAt)) / 1000
  return { experimentId: accepted.experimentId, runId, ...accuracies(found.scores), training }
}

function tell(output: Output, result: Result): void {
  const row = (name: string, key: keyof Accuracy) =>
    `  ${name.padEnd(28)}${result.accuracy[key].toFixed(3).padStart(7)}${result.best[key].toFixed(3).padStart(12)}`
  output.say()
  output.say(`  ${'weighted kNN accuracy'.padEnd(28)}${'k = 200'.padStart(7)}${'at best k'.padStart(12)}`)
  output.say(row('NPID, trained here', 'npid'))
  output.say(row('floor: raw pixels', 'rawPixels'))
  output.say(row('floor: untrained net', 'untrained'))
  output.say()
  const { ready, training, total } = result.seconds
  output.say(`ready ${duration(ready)}, run ${duration(training)}, all ${duration(total)}`)
}

/**
 * The whole journey on one machine: start, post, follow, report. In a terminal it keeps serving until Ctrl-C; with
 * `exit`, or without a terminal, it stops everything. Returns the exit code.
 */
export async function demo(
  config: Config,
  output: Output,
  options: { exit: boolean; started: number },
): Promise<number> {
  const since = () => (performance.now() - options.started) / 1000
  const halt = askedToStop()
  const stack: Stack = await startStack(config, output.say)
  const ready = since()
  const client = openClient({ url: stack.url, token: config.token })
  try {
    const ending = Promise.race([halt, stack.broken])
    const outcome = await Promise.race([runRecipe(client, output, ready), ending])
    if (typeof outcome === 'string') {
      output.say(`stopping: ${outcome}`)
      return outcome === 'interrupted' ? 130 : 1
    }
    const { training, ...rest } = outcome
    const round = (seconds: number) => Math.round(seconds * 10) / 10
    const seconds = { ready: round(ready), training: round(training), total: round(since()) }
    const result: Result = { ...rest, seconds }
    tell(output, result)
    const serve = process.stdout.isTTY && !options.exit
    if (serve) {
      output.say(
        `serving at ${stack.url} (playground ${stack.url}/graphiql, API docs ${stack.url}/docs); Ctrl-C stops it`,
      )
      output.say(`stopping: ${await ending}`)
    }
    if (output.json) process.stdout.write(`${JSON.stringify(result)}\n`)
    return 0
  } finally {
    await client.close()
    await stack.stop()
  }
}
