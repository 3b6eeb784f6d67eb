import type { ImageShape } from '../../src/data/dataset.ts'
import { asWritten, type Schema, withDefaults } from '../../src/experiments/schema.ts'
import { applyDense, unitRows } from '../../src/models/layers/dense.ts'
import { type MemoryBank, newBank, rowsOf, updateBank } from '../../src/models/math/memory-bank.ts'
import { softmaxLoss } from '../../src/models/math/softmax.ts'
import { nets } from '../../src/models/nets/index.ts'
import { optimizers } from '../../src/models/training/optimizer.ts'
import { type Scalar, type Tensor, type Tensor2D, type Tensor4D, tf, type Variable } from '../../src/tf.ts'
import type { Layer, Row } from './rows.ts'
import type { State } from './state.ts'

/** A row at work on the engine of this process. */
export interface Training {
  /** Takes one step; the loss before it. */
  step(): number
  /** The same on an engine that gives numbers later. */
  stepLater(): Promise<number>
  dispose(): void
}

type Weights = Record<string, Variable>
type Forward = (images: Tensor4D) => Tensor
/** The loss, and of a memory bank's row the features, [batch, d]. */
type Objective = () => { loss: Scalar; features?: Tensor2D }

function applyLayer(x: Tensor, layer: Layer, number: number, weights: Weights): Tensor {
  if (layer.kind === 'conv') {
    const filter = weights[`conv${number}/filter`] as never
    const padding = (layer.size - 1) / 2
    const filtered = tf.conv2d(x as Tensor4D, filter, layer.stride, padding, 'NHWC', 1, 'floor')
    return tf.relu(tf.add(filtered, weights[`conv${number}/bias`]!))
  }
  if (layer.kind === 'pool') return tf.maxPool(x as Tensor4D, layer.size, layer.stride, 'valid')
  if (layer.kind !== 'dense') throw new RangeError(`no layer '${layer.kind}' here`)
  const dense = { weights: weights[`dense${number}/weights`]!, bias: weights[`dense${number}/bias`]! }
  const made = applyDense(tf.reshape(x, [x.shape[0]!, -1]) as Tensor2D, dense)
  return layer.relu ? tf.relu(made) : made
}

const smallOf = (widths: number[]) =>
  withDefaults(asWritten(nets.small.parameters as Schema), { widths }) as Parameters<typeof nets.small.build>[0]

/** The service's small net for the layers that are its own, then the others one by one. */
function buildNet({ image, layers }: Row, weights: Weights): { forward: Forward; memory: Record<string, Variable> } {
  const blocks = layers.flatMap((layer) => (layer.kind === 'block' ? [layer.channels] : []))
  const net = blocks.length > 0 ? nets.small.build(smallOf(blocks), image as ImageShape, 1) : undefined
  for (const [name, own] of Object.entries(net?.weights ?? {})) {
    own.assign(weights[name]! as never)
    weights[name]!.dispose()
    weights[name] = own
  }
  const forward = (images: Tensor4D) => {
    let x: Tensor = net ? net.forward(images, ['flat'], true).flat! : images
    for (const [i, layer] of layers.entries()) if (layer.kind !== 'block') x = applyLayer(x, layer, i + 1, weights)
    return x
  }
  return { forward, memory: net?.memory ?? {} }
}

function classify(forward: Forward, state: State): Objective {
  const { images, labels } = state
  const indices = Int32Array.from(labels!.values)
  return () => {
    const scores = forward(tf.tensor4d(images!.values, images!.shape as never))
    const targets = tf.oneHot(tf.tensor1d(indices, 'int32'), scores.shape[1]!)
    return { loss: tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(scores), targets), 1))) }
  }
}

function tellApart(forward: Forward, { temperature }: Row, state: State, bank: MemoryBank): Objective {
  const { images, labels } = state
  const own = Int32Array.from(labels!.values)
  return () => {
    const features = unitRows(forward(tf.tensor4d(images!.values, images!.shape as never)) as Tensor2D)
    return { loss: tf.mean(softmaxLoss(features, rowsOf(bank), own, temperature!)), features }
  }
}

/** Which pixel each receptive field sees, position by position. */
export function fieldPixels([height, width]: readonly number[], field: number, stride: number): Int32Array {
  const pixels: number[] = []
  for (let top = 0; top + field <= height!; top += stride)
    for (let left = 0; left + field <= width!; left += stride)
      for (let y = 0; y < field; y++) for (let x = 0; x < field; x++) pixels.push((top + y) * width! + left + x)
  return Int32Array.from(pixels)
}

function reconstruct({ image, layers, batch }: Row, weights: Weights, state: State): Objective {
  const [layer] = layers
  if (layer?.kind !== 'local') throw new RangeError('patches need a local layer')
  const pixels = fieldPixels(image, layer.field, layer.stride)
  const [encoder, decoder] = [weights['local1/encoder']!, weights['local1/decoder']!]
  return () => {
    const images = tf.tensor2d(state.images!.values, [batch, image[0] * image[1]])
    const seen = tf.reshape(tf.gather(tf.transpose(images), pixels), [-1, layer.field ** 2, batch])
    const again = tf.matMul(decoder as Tensor, tf.matMul(encoder as Tensor, seen))
    return { loss: tf.div(tf.sum(tf.squaredDifference(again, seen)), batch) as Scalar }
  }
}

function objectiveOf(row: Row, forward: Forward, weights: Weights, state: State, bank?: MemoryBank): Objective {
  if (row.loss === 'patches') return reconstruct(row, weights, state)
  return bank ? tellApart(forward, row, state, bank) : classify(forward, state)
}

function readWeights(state: State): Weights {
  const data = ['images', 'labels', 'bank']
  const entries = Object.entries(state).filter(([name]) => !data.includes(name))
  return tf.tidy(() =>
    Object.fromEntries(entries.map(([name, { shape, values }]) => [name, tf.variable(tf.tensor(values, [...shape]))])),
  )
}

/** Readies a row on the engine that is chosen, from the given state. */
export function prepareTraining(row: Row, state: State): Training {
  const weights = readWeights(state)
  const { forward, memory } = buildNet(row, weights)
  const bank = state.bank && newBank(state.bank.values.slice(), state.bank.shape[1]!)
  const objective = objectiveOf(row, forward, weights, state, bank)
  const { learningRate, momentum } = row
  const stepper = optimizers.sgd.create({ learningRate, momentum, weightDecay: 0 }, { weights })
  const own = Int32Array.from(state.labels!.values)
  const record = () => {
    const found: { features?: Tensor2D } = {}
    const { value, grads } = tf.variableGrads(() => {
      const { loss, features } = objective()
      if (features) found.features = tf.keep(features)
      return loss
    }, Object.values(weights))
    const gradients = Object.entries(weights).map(([name, weight]) => [name, grads[weight.name]!] as const)
    stepper.apply(Object.fromEntries(gradients), learningRate)
    if (bank) updateBank(bank, own, found.features!, row.bankMomentum!)
    tf.dispose(found)
    return value
  }
  return {
    step() {
      const loss = tf.tidy(record)
      // Read after the scope, when nothing but weights and results is alive, all at once.
      const value = loss.dataSync()[0]!
      loss.dispose()
      return value
    },
    async stepLater() {
      const loss = tf.tidy(record)
      const [value] = await loss.data()
      loss.dispose()
      return value!
    },
    dispose() {
      stepper.dispose()
      tf.dispose([weights, memory, bank?.values ?? []])
    },
  }
}
