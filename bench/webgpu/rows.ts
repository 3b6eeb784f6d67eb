// What the WebGPU bench computes on both sides, with the numbers that it starts from.
import { type Norm, normaliseBatch } from '../../src/models/layers/norm.ts'
import { type MemoryBank, newBank, readBank, rowsOf, updateBank } from '../../src/models/math/memory-bank.ts'
import { softmaxLoss } from '../../src/models/math/softmax.ts'
import { optimizers } from '../../src/models/training/optimizer.ts'
import { type Tensor, type Tensor2D, tf, type Variable } from '../../src/tf.ts'
import { rows as nets, planRow } from '../engine/rows.ts'
import { drawState } from '../engine/state.ts'
import { prepareTraining } from '../engine/training.ts'

/** A row that is ready: each call computes it once, and gives all that has to be computed. */
export interface Work {
  run(): Tensor[] | Promise<Tensor[]>
  dispose(): void
}

export interface Row {
  kernel: string
  shape: string
  prepare(): Work
}

type Shape = readonly number[]

const sizeOf = (shape: Shape) => shape.reduce((a, b) => a * b, 1)
const text = (...shapes: Shape[]) => shapes.map((shape) => `[${shape.join(', ')}]`).join(' x ')

/** Numbers from -1 to 1, the same on both sides whenever they are drawn (xorshift). */
function draw(length: number, seed = 1): Float32Array {
  let state = seed * 2_654_435_761
  return Float32Array.from({ length }, () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state / 2 ** 31
  })
}

const drawn = (shape: Shape, seed = 1) => tf.tensor(draw(sizeOf(shape), seed), [...shape])

/** Places of a bank, scattered over all of it, each once. */
const scattered = (count: number, size: number) =>
  Int32Array.from({ length: count }, (_, i) => (i * Math.floor(size / count) + 7) % size)

/** A row of operands that stay as they are, and what is made of them. */
function plain(
  kernel: string,
  shapes: readonly Shape[],
  compute: (...operands: Tensor[]) => Tensor[],
  title = text(...shapes),
): Row {
  return {
    ...{ kernel, shape: title },
    prepare() {
      const operands = shapes.map((shape, i) => drawn(shape, i + 1))
      return { run: () => tf.tidy(() => compute(...operands)), dispose: () => tf.dispose(operands) }
    },
  }
}

const one = (name: string, inputs: Record<string, Tensor>, attributes: object): Tensor[] => [
  tf.engine().runKernel(name, inputs, attributes as never) as Tensor,
]

/** A 3 x 3 convolution of stride 1 as the nets have it, and its gradients. */
function convolutions(x: Shape, channels: number): Row[] {
  const filter = [3, 3, x[3]!, channels]
  const made = [...x.slice(0, 3), channels]
  const common = { strides: 1, pad: 1, dataFormat: 'NHWC', dilations: 1, dimRoundingMode: 'floor' }
  return [
    plain('convolution', [x, filter], (images, weights) => one('Conv2D', { x: images!, filter: weights! }, common)),
    plain('convolution, gradient of the filter', [x, made], (images, dy) =>
      one('Conv2DBackpropFilter', { x: images!, dy: dy! }, { ...common, filterShape: filter }),
    ),
    plain('convolution, gradient of the images', [made, filter], (dy, weights) =>
      one('Conv2DBackpropInput', { dy: dy!, filter: weights! }, { ...common, inputShape: x }),
    ),
  ]
}

function norms(x: Shape): Row[] {
  const channels = [x[3]!]
  const prepare = (backward: boolean) => (): Work => {
    const [images, dy] = [drawn(x), drawn(x, 2)]
    const running = { mean: tf.variable(tf.zeros(channels), false), variable: tf.variable(tf.ones(channels), false) }
    const [scale, offset] = [drawn(channels, 3), drawn(channels, 4)]
    const forward = (...given: Tensor[]) => {
      const norm = { scale: given[1], offset: given[2], mean: running.mean, variance: running.variable }
      return normaliseBatch(given[0] as never, norm as Norm) as Tensor
    }
    const inputs = [images, scale, offset]
    return {
      run: () => tf.tidy(() => (backward ? tf.grads(forward)(inputs, dy) : [forward(...inputs)])),
      dispose: () => tf.dispose([inputs, dy, running] as never),
    }
  }
  return [
    { kernel: 'batch norm with relu', shape: text(x), prepare: prepare(false) },
    { kernel: 'batch norm with relu, forward and backward', shape: text(x), prepare: prepare(true) },
  ]
}

function banks(batch: number, size: number, dimension: number): Row[] {
  const places = scattered(batch, size)
  const make = () => newBank(draw(size * dimension), dimension)
  const row = (kernel: string, compute: (bank: MemoryBank, features: Tensor2D) => Tensor[]): Row => ({
    ...{ kernel, shape: `${batch} of ${text([size, dimension])}` },
    prepare() {
      const [bank, features] = [make(), tf.mul(drawn([batch, dimension], 2), 0.1) as Tensor2D]
      return {
        run: () => tf.tidy(() => compute(bank, features)),
        dispose: () => tf.dispose([bank.values, features]),
      }
    },
  })
  return [
    row('softmax over a bank, with its gradient', (bank, features) => {
      const loss = (f: Tensor) => softmaxLoss(f as Tensor2D, rowsOf(bank), places, 0.07)
      const { value, grad } = tf.valueAndGrad(loss)(features)
      return [value, grad]
    }),
    row('rows of a bank gathered', (bank) => [readBank(bank, places)]),
    row('rows of a bank updated', (bank, features) => {
      updateBank(bank, places, features, 0.5)
      return [tf.clone(bank.values)]
    }),
  ]
}

/** As src/models/math/centroids.ts asks for it. */
const nearest = (points: number, width: number, k: number): Row =>
  plain(
    'nearest centroids',
    [[points, width], [width, k], [k]],
    (x, columns, offsets) => [tf.argMax(tf.add(tf.matMul(x as Tensor2D, columns as Tensor2D), offsets!), 1)],
    `${text([points, width])}, k ${k}`,
  )

/**
 * Gradients that lie as a training step of our engine makes them, one behind the other: results of an update. The stock
 * backend knows nothing of that.
 */
function gradientsFor(plans: readonly { name: string; shape: readonly number[] }[]): Record<string, Variable> {
  const start = plans.map(({ name, shape }, i): [string, Variable] => [name, tf.variable(drawn(shape, i + 100))])
  const gradients = Object.fromEntries(start)
  const drawnAt = (i: number) => drawn(plans[i]!.shape, i + 200)
  const stepper = optimizers.sgd.create({ learningRate: 1, momentum: 0, weightDecay: 0 }, { weights: gradients })
  tf.tidy(() => stepper.apply(Object.fromEntries(plans.map(({ name }, i) => [name, drawnAt(i)])), 1))
  stepper.dispose()
  return gradients
}

/** SGD with momentum over all weights of a net. */
function update(name: string): Row {
  const { weights: plans } = planRow(nets.find((row) => row.name === name)!)
  const total = plans.reduce((sum, { shape }) => sum + sizeOf(shape), 0)
  return {
    ...{ kernel: 'SGD with momentum', shape: `${plans.length} weights of ${name}, ${total} numbers` },
    prepare() {
      const weights: Record<string, Variable> = {}
      for (const [i, { name, shape }] of plans.entries()) weights[name] = tf.variable(drawn(shape, i + 1))
      const gradients = gradientsFor(plans)
      let ready: Promise<unknown> | undefined
      const settings = { learningRate: 0.01, momentum: 0.9, weightDecay: 0.0005 }
      const stepper = optimizers.sgd.create(settings, { weights })
      return {
        async run() {
          ready ??= Object.values(gradients)[0]!.data()
          await ready
          stepper.apply(gradients, 0.01)
          return Object.values(weights).map((weight) => tf.clone(weight))
        },
        dispose() {
          stepper.dispose()
          tf.dispose([weights, gradients] as never)
        },
      }
    },
  }
}

/** A training step of a net of the engine bench; its result is the loss, which is read. */
function step(name: string, batch?: number): Row {
  const found = nets.find((row) => row.name === name)!
  const row = { ...found, batch: batch ?? found.batch }
  return {
    ...{ kernel: 'training step', shape: `${name}, batch ${row.batch}` },
    prepare() {
      const training = prepareTraining(row, drawState(row))
      return { run: async () => [tf.scalar(await training.stepLater())], dispose: () => training.dispose() }
    },
  }
}

export const rows: readonly Row[] = [
  ...convolutions([128, 14, 14, 16], 32),
  ...convolutions([32, 16, 16, 64], 64),
  plain(
    'product',
    [
      [512, 512],
      [512, 512],
    ],
    (a, b) => [tf.matMul(a as Tensor2D, b as Tensor2D)],
  ),
  plain(
    'product',
    [
      [128, 128],
      [10_000, 128],
    ],
    (a, b) => [tf.matMul(a as Tensor2D, b as Tensor2D, false, true)],
    '[128, 128] x [128, 10000]',
  ),
  ...norms([128, 14, 14, 16]),
  ...banks(128, 10_000, 128),
  nearest(16_384, 64, 500),
  update('F-S'),
  step('F-S'),
  step('npid'),
]

/** The same kinds of rows for a look at whether all starts. */
export const tinyRows: readonly Row[] = [
  ...convolutions([2, 6, 6, 4], 8),
  plain(
    'product',
    [
      [16, 16],
      [16, 16],
    ],
    (a, b) => [tf.matMul(a as Tensor2D, b as Tensor2D)],
  ),
  ...norms([2, 4, 4, 8]),
  ...banks(4, 50, 8),
  nearest(100, 4, 10),
  update('F-S'),
  step('F-S', 2),
]
