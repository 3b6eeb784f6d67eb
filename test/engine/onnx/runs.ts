import { parseDefinition } from '../../../src/experiments/definition.ts'
import type { Evaluation } from '../../../src/models/evaluation.ts'
import { evaluations } from '../../../src/models/evaluations/index.ts'
import type { Ability, Method } from '../../../src/models/method.ts'
import { methods } from '../../../src/models/methods/index.ts'

const joint = { classifier: { epochs: 0 }, layerwise: { epochs: 0 }, stacked: { epochs: 0 } }

/** Settings that fit this small world, or take other ways through a method; each is run. */
const variants: Record<string, object[]> = {
  'deep-autoencoder': [{ widths: [16, 8] }],
  deepcluster: [{ k: 8 }],
  'kmeans-patches': [{ centroids: 8, patches: 400, iterations: 3, patch: 4 }],
  npid: [
    { dimension: 8 },
    { dimension: 8, negatives: 6, zMode: 'ema', proximal: 1 },
    { dimension: 8, negatives: 'all' },
  ],
  pca: [{ components: 8 }],
  'random-filters': [{ filters: 8, patch: 4 }],
  'what-where': [joint, { ...joint, pathway: 'sae', losses: 'layerwise' }],
}

// Nets other than the small one are tested layer by layer, and family by family, in test/models/nets.
export const runs = Object.keys(methods).flatMap((method) =>
  (variants[method] ?? [{}]).map((settings) => ({ method, net: 'small', settings })),
)

const there = (method: string) => {
  const { abilities } = (methods as unknown as Record<string, Method>)[method]!
  const offered = new Set<Ability>([...abilities, 'labels', 'pools'])
  return Object.values(evaluations as unknown as Record<string, Evaluation>)
    .filter(({ requires }) => requires.every((ability) => offered.has(ability)))
    .map(({ name }) => (name === 'cluster-agreement' ? { name, k: 4 } : { name }))
}

/** A run in a small world, with all evaluations that its method can have. */
export const definitionOf = ({ method, net, settings }: (typeof runs)[number], epochs: number) =>
  parseDefinition({
    version: 1,
    name: 'without-fallback',
    seed: 3,
    dataset: { name: 'shapes', images: 240, testImages: 40, classes: 4, height: 8, width: 8, clutter: 0 },
    net: { name: net },
    method: { name: method, ...settings },
    training: { epochs, batchSize: 40, checkpointEverySteps: 7 },
    evaluations: there(method),
  })
