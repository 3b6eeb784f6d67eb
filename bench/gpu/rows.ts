// What the GPU bench measures, and what follows from the shapes alone.
import type { ImageShape } from '../../src/data/dataset.ts'
import { asWritten, type Schema, withDefaults } from '../../src/experiments/schema.ts'
import { nets } from '../../src/models/nets/index.ts'
import { conv, dense, flatten, pool, relu } from '../../src/models/nets/kinds.ts'
import type { Net, NetPlan } from '../../src/models/nets/net.ts'
import { buildSequence, planSequence } from '../../src/models/nets/sequence.ts'

/** A net that learns classes, or to tell the images of a bank apart. */
export interface TrainingRow {
  kind: 'training'
  name: string
  /** A family of src/models/nets with parameters of its own, or the wide net of the engine bench. */
  family: keyof typeof nets | 'wide'
  parameters: Record<string, unknown>
  image: ImageShape
  classes: number
  /** Batch sizes in the order in which they are tried, until one does not fit or brings nothing. */
  batches: readonly number[]
  /** Images in the memory bank, of 128 numbers each. */
  bank?: number
}

/** k-means. */
export interface ClusteringRow {
  kind: 'clustering'
  name: string
  n: number
  d: number
  k: number
  iterations: number
}

export type Row = TrainingRow | ClusteringRow

export const dimension = 128

/** Powers of two. */
const doubling = (first: number, last: number): number[] => (first > last ? [] : [first, ...doubling(2 * first, last)])

const large = { image: [224, 224, 3] as const, classes: 1000 }
const cifar = { image: [32, 32, 3] as const, classes: 10 }

export const rows: readonly Row[] = [
  {
    ...{ kind: 'training', name: 'F-S', family: 'small', parameters: {} },
    ...{ image: [28, 28, 1], classes: 10, batches: doubling(128, 16_384) },
  },
  { kind: 'training', name: 'wide', family: 'wide', parameters: {}, ...cifar, batches: doubling(128, 8192) },
  {
    ...{ kind: 'training', name: 'ResNet-18 (CIFAR)', family: 'resnet', parameters: { depth: 18, stem: 'cifar' } },
    ...{ ...cifar, batches: doubling(128, 4096) },
  },
  {
    ...{ kind: 'training', name: 'ResNet-50 at 224', family: 'resnet', parameters: { depth: 50 } },
    ...{ ...large, batches: doubling(32, 1024) },
  },
  {
    ...{ kind: 'training', name: 'VGG-16 at 224', family: 'vgg', parameters: { depth: 16 } },
    ...{ ...large, batches: doubling(32, 512) },
  },
  {
    ...{ kind: 'training', name: 'NPID, bank of 1,000,000', family: 'small', parameters: {} },
    ...{ ...cifar, batches: doubling(128, 1024), bank: 1_000_000 },
  },
  { kind: 'clustering', name: 'k-means 1,000,000 x 256, k 1000', n: 1_000_000, d: 256, k: 1000, iterations: 5 },
]

/** The same kinds of rows, so small that a processor can play the GPU. */
export const tinyRows: readonly Row[] = rows.map((row) => {
  if (row.kind === 'clustering') return { ...row, n: 2000, d: 16, k: 10, iterations: 2, name: `${row.name} (tiny)` }
  const [height, , channels] = row.image
  const side = height === 224 ? 32 : 16
  const parameters =
    row.family === 'resnet' ? { width: 4 } : row.family === 'vgg' ? { width: 4, dense: [16] } : { widths: [4, 8, 8] }
  return {
    ...{ ...row, name: `${row.name} (tiny)`, image: [side, side, channels] as const, classes: 10, batches: [2] },
    parameters: row.family === 'wide' ? {} : { ...row.parameters, ...parameters },
    ...(row.bank === undefined ? {} : { bank: 1000 }),
  }
})

/** As in bench/engine/rows.ts. */
function wideLayers() {
  const one = (name: string, channels: number) => [
    conv({ name, channels, kernel: 3, padding: 1, bias: true, drawing: 'he' }),
    relu(`relu-${name}`),
  ]
  return [
    ...[...one('conv1', 32), ...one('conv2', 32), pool('pool1', 'max', 2, 2)],
    ...[...one('conv3', 64), ...one('conv4', 64), pool('pool2', 'max', 2, 2)],
    ...[flatten('flat'), dense('dense1', 128, 'he'), relu('relu5')],
  ]
}

/** With the family's defaults for what a row does not say. */
function parametersOf({ family, parameters }: TrainingRow) {
  if (family === 'wide') throw new RangeError('the wide net has no parameters')
  return withDefaults(asWritten(nets[family].parameters as Schema), parameters) as never
}

export function planNet(row: TrainingRow): NetPlan {
  if (row.family === 'wide') return planSequence(wideLayers(), row.image)
  return nets[row.family].plan(parametersOf(row), row.image)
}

export function buildNet(row: TrainingRow): Net {
  if (row.family === 'wide') return buildSequence(wideLayers(), row.image, 1)
  return nets[row.family].build(parametersOf(row), row.image, 1)
}

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)

/** What a step of one image costs at the least, and a clustering as a whole. */
export interface Cost {
  /** Floating-point operations, two for a multiply-add. */
  flops: number
  /** Bytes read and written. */
  bytes: number
  /** Learned numbers. */
  weights: number
}

/**
 * Forward, gradient of the input and of the weights: three times the forward pass; of a bank, which does not learn, two.
 * Each activation is written once, read once forward and once backward, and its gradient is written and read once.
 */
export function costOf(row: Row): Cost {
  if (row.kind === 'clustering') {
    const { n, d, k, iterations } = row
    return { flops: 2 * n * d * k * (iterations + 1), bytes: 4 * n * d * (iterations + 1), weights: k * d }
  }
  const plan = planNet(row)
  const inputs = sizeOf(plan.taps[plan.top]!)
  const outputs = row.bank === undefined ? row.classes : dimension
  const bank = (row.bank ?? 0) * dimension
  const activations = Object.values(plan.taps).reduce((sum, shape) => sum + sizeOf(shape), 0)
  return {
    flops: 2 * (3 * (plan.multiplyAdds + inputs * outputs) + 2 * bank),
    bytes: 4 * (5 * activations + 5 * (row.bank ?? 0)),
    weights: plan.weights + inputs * outputs + outputs,
  }
}
