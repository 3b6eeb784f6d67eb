import { type Static, Type } from 'typebox'
import { labelsOf } from '../../data/stratified.ts'
import type { Dice } from '../dice.ts'
import { defineEvaluation, type Findings } from '../evaluation.ts'
import { Collapsed, preparationBytes, prepareFeatures } from '../features.ts'
import { adjustedRand, matchedAccuracy, mutualInformation } from '../math/information.ts'
import { kMeans } from '../math/kmeans.ts'
import type { Rows } from '../math/rows.ts'

const parameters = Type.Object(
  {
    k: Type.Union(
      [
        Type.Literal('classes', { description: 'As many as there are classes.' }),
        Type.Integer({ minimum: 2, maximum: 1_000_000, description: 'Clusters.' }),
      ],
      {
        default: 'classes',
        description:
          'Clusters. With as many as there are classes, the accuracy is told too: of clusters that are each given the class that suits all of them best.',
      },
    ),
    split: Type.Union([Type.Literal('test'), Type.Literal('train')], {
      default: 'test',
      description: 'Which images are clustered.',
    }),
    components: Type.Integer({
      minimum: 1,
      maximum: 65_536,
      default: 64,
      description: 'Principal components of the embedding that are clustered; all where there are fewer.',
    }),
    whiten: Type.Boolean({
      default: false,
      description: 'Whether each component is divided by its deviation, as DeepCluster does.',
    }),
    iterations: Type.Integer({ minimum: 1, maximum: 10_000, default: 50, description: 'Of k-means, at most.' }),
    starts: Type.Integer({
      minimum: 1,
      maximum: 100,
      default: 5,
      description: 'Times that k-means begins anew, by k-means++; the clusters with the least inertia count.',
    }),
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>
type Measure = Parameters & { k: number }

/** What all agree in: mutual information by both means, the Rand index, and with k = classes the matched accuracy. */
function compare(all: Int32Array, allLabels: Int32Array, matched: boolean): Record<string, number> {
  // What has no label says nothing of the agreement.
  const clusters = all.filter((_, i) => allLabels[i]! >= 0)
  const labels = allLabels.filter((label) => label >= 0)
  return {
    nmi: mutualInformation(clusters, labels),
    nmiArithmetic: mutualInformation(clusters, labels, 'arithmetic'),
    adjustedRand: adjustedRand(clusters, labels),
    ...(matched ? { accuracy: matchedAccuracy(clusters, labels) } : {}),
  }
}

/** The clusters with the least inertia of several beginnings. */
async function bestOf(
  rows: Rows,
  { k, iterations, starts }: Measure,
  dice: Dice,
  stop: AbortSignal,
  onProgress: (share: number) => void,
): Promise<Int32Array> {
  let best: { inertia: number; assignments: Int32Array } | undefined
  for (let start = 0; start < starts; start++) {
    const own = dice.for('clusters', start)
    const found = await kMeans(rows, { k, iterations, start: 'plus-plus', dice: own, stop })
    const inertia = found.inertia.at(-1)!
    if (!best || inertia < best.inertia) best = { inertia, assignments: found.assignments }
    onProgress((start + 1) / starts)
  }
  return best!.assignments
}

/** How well clusters of the embedding, found without a label, agree with the labels; beside those of the untrained net. */
export const clusterAgreement = defineEvaluation({
  name: 'cluster-agreement',
  title: 'Agreement of clusters with labels',
  paper: 'Strehl and Ghosh 2002 (NMI); Hubert and Arabie 1985 (adjusted Rand index); Kuhn 1955 (matching)',
  parameters,
  requires: ['labels'],
  check({ k, split }, { size, testSize, classes }) {
    const wanted = k === 'classes' ? classes : k
    const [images, kind] = split === 'train' ? [size, 'training'] : [testSize, 'test']
    if (wanted <= images) return []
    const detail = `is ${wanted}; there are ${images} ${kind} images, so it should be at most ${images}`
    return [{ pointer: '/k', detail }]
  },
  // As if both splits were clustered: which one it is makes no difference to who can do it, and more is safe.
  memoryBytes: (own, { images, dimension }) => preparationBytes(images, dimension, own),
  async measure({ learner, untrained, corpus }, own, dice, watch): Promise<Findings> {
    const dataset = corpus[own.split]
    const k = own.k === 'classes' ? dataset.classes : own.k
    const matched = k === dataset.classes
    const { stop } = watch
    const labels = await labelsOf(dataset)
    const measureOne = async (one: typeof learner, from: number) => {
      const tell = (start: number, share: number) => (done: number) =>
        watch.onProgress(from + (start + share * done) / 2)
      const found = { stop, onProgress: tell(0, 0.5) }
      const clusters = await prepareFeatures(one, dataset, one.embedding, own, dice.for('features'), found).then(
        ({ rows }) => bestOf(rows, { ...own, k }, dice, stop, tell(0.5, 0.5)),
        (error: unknown) => {
          // Images that are all alike to the net are one cluster: a finding, which costs no other evaluation.
          if (error instanceof Collapsed) return new Int32Array(dataset.size)
          throw error
        },
      )
      return compare(clusters, labels, matched)
    }
    const scores = await measureOne(learner, 0)
    const fresh = untrained()
    try {
      const floor = await measureOne(fresh, 0.5)
      const names = Object.keys(scores)
      const row = (name: string, found: Record<string, number>) => [name, ...names.map((each) => found[each]!)]
      return {
        scores: { ...scores, clusters: k, untrained: floor.nmi! },
        tables: [
          {
            name: `agreement of ${k} clusters with the labels`,
            columns: ['representation', ...names],
            rows: [row('trained', scores), row('untrained', floor)],
          },
        ],
      }
    } finally {
      fresh.dispose()
    }
  },
})
