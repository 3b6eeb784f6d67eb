import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node'
import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { exportOnnx, type Features } from '../../../src/engine/onnx/export.ts'
import { rollDice } from '../../../src/models/dice.ts'
import type { Learner } from '../../../src/models/method.ts'
import { methods } from '../../../src/models/methods/index.ts'
import { nets } from '../../../src/models/nets/index.ts'
import type { NetFamily } from '../../../src/models/nets/net.ts'
import { small } from '../../../src/models/nets/small.ts'
import { type Tensor, type Tensor4D, tf } from '../../../src/tf.ts'
import { defaultsOf } from '../../models/tiny.ts'

const imageShape = [12, 12, 3] as const

beforeAll(() => chooseEngine('cpu', { threads: 1 }))

function draw(count: number): Float32Array {
  const dice = rollDice(count).for('images')
  return Float32Array.from({ length: count * 12 * 12 * 3 }, () => dice.uniform())
}

function buildLearner(widths: number[]): Learner {
  const net = small.build(defaultsOf(small.parameters, { widths }) as never, imageShape, 5)
  const npid = methods.npid
  const parameters = defaultsOf(npid.parameters, { dimension: 6 })
  const learner = npid.build(parameters as never, { net, imageShape, size: 10, classes: 0, seed: 5 })
  // Statistics of their own, so that the norms do something.
  const dice = rollDice(9).for('statistics')
  for (const part of Object.values(learner.memory))
    if (!(part instanceof Float32Array))
      tf.tidy(() =>
        part.assign(
          tf.tensor(
            Array.from({ length: part.size }, () => 0.5 + dice.uniform()),
            part.shape,
          ),
        ),
      )
  return learner
}

const tensorsOf = ({ weights, memory }: Learner) =>
  Object.fromEntries(
    [...Object.entries(weights), ...Object.entries(memory)].flatMap(([name, part]) =>
      part instanceof Float32Array ? [] : [[name, part as Tensor] as const],
    ),
  )

async function open(features: Features, facts: Record<string, string> = {}) {
  return InferenceSession.create(Buffer.concat(await exportOnnx(features, facts)))
}

async function inRuntime(session: InferenceSession, count: number) {
  const images = new OrtTensor('float32', draw(count), [count, ...imageShape])
  return session.run({ images })
}

function here(learner: Learner, count: number, taps: string[]) {
  const images = tf.tensor4d(draw(count), [count, ...imageShape])
  const found = learner.encode(images, taps)
  const numbers = Object.fromEntries(
    taps.map((tap) => [tap, { shape: found[tap]!.shape, data: [...found[tap]!.dataSync()] }]),
  )
  tf.dispose([images, found])
  return numbers
}

describe('features as ONNX', () => {
  it('are the same in ONNX Runtime, at every tap, for any number of images', async () => {
    const learner = buildLearner([4, 6])
    const taps = Object.keys(learner.taps)
    const encode = (images: Tensor4D) => learner.encode(images, taps)
    const session = await open({ imageShape, encode, tensors: tensorsOf(learner) })
    expect(session.inputNames).toEqual(['images'])
    expect([...session.outputNames].sort()).toEqual([...taps].sort())
    for (const count of [1, 2, 7]) {
      const found = await inRuntime(session, count)
      for (const [tap, { shape, data }] of Object.entries(here(learner, count, taps))) {
        expect(found[tap]!.dims, tap).toEqual(shape)
        const numbers = found[tap]!.data as Float32Array
        expect(Math.max(...data.map((value, i) => Math.abs(value - numbers[i]!))), tap).toBeLessThan(1e-5)
      }
    }
    learner.dispose()
  })

  it.each([
    ['alexnet', { widths: [4, 4, 4, 4, 4], dense: [5] }, 67],
    ['vgg', { width: 2, depth: 11, norm: 'batch', dense: [4], input: 'imagenet' }, 32],
    ['resnet', { depth: 18, width: 2, stem: 'imagenet', input: 'sobel' }, 32],
    ['resnet', { depth: 50, width: 2, stem: 'cifar' }, 16],
  ])('of the net %s %j are the same there', async (name, given, side) => {
    const family = (nets as unknown as Record<string, NetFamily>)[name]!
    const shape = [side, side, 3] as const
    const net = family.build(defaultsOf(family.parameters, given), shape, 3)
    const { top } = net.plan
    const encode = (images: Tensor4D) => tf.tidy(() => net.forward(images, [top], false))
    const session = await open({ imageShape: shape, encode, tensors: { ...net.weights, ...net.memory } })
    const dice = rollDice(1).for('pixels')
    const pixels = Float32Array.from({ length: 3 * side * side * 3 }, () => dice.uniform())
    const found = await session.run({ images: new OrtTensor('float32', pixels, [3, ...shape]) })
    const wanted = tf.tidy(() => [...encode(tf.tensor4d(pixels, [3, ...shape]))[top]!.dataSync()])
    const numbers = found[top]!.data as Float32Array
    expect(numbers).toHaveLength(wanted.length)
    const scale = Math.max(...wanted.map(Math.abs))
    expect(Math.max(...wanted.map((value, i) => Math.abs(value - numbers[i]!))) / scale).toBeLessThan(1e-4)
    tf.dispose([net.weights, net.memory])
  })

  it('leave the engine as it was, and every tensor where it can be used', async () => {
    const learner = buildLearner([4])
    const before = here(learner, 2, ['embed'])
    const tensors = tf.memory().numTensors
    await exportOnnx(
      { imageShape, encode: (images) => learner.encode(images, ['embed']), tensors: tensorsOf(learner) },
      {},
    )
    expect(tf.getBackend()).toBe('cpu')
    expect(tf.memory().numTensors).toBe(tensors)
    expect(here(learner, 2, ['embed'])).toEqual(before)
    learner.dispose()
  })

  it('take sizes from the number of images where these are no mere open side', async () => {
    const encode = (images: Tensor4D) => ({
      tiled: tf.tidy(() => tf.add(images, tf.ones([images.shape[0], 12, 12, 3]))),
    })
    const session = await open({ imageShape, encode, tensors: {} })
    const { tiled } = await inRuntime(session, 3)
    const images = draw(3)
    expect([...(tiled!.data as Float32Array)].every((value, i) => Math.abs(value - images[i]! - 1) < 1e-6)).toBe(true)
  })

  it('say of what they are in their metadata', async () => {
    const encode = (images: Tensor4D) => ({ twice: tf.mul(images, 2) })
    const file = Buffer.concat(await exportOnnx({ imageShape, encode, tensors: {} }, { tap: 'twice', net: 'none' }))
    for (const text of ['gestalt', 'tap', 'twice', 'batch']) expect(file.includes(text)).toBe(true)
  })

  it.each([
    [
      'read numbers on their way',
      (images: Tensor4D) => ({ x: tf.mul(images, tf.mean(images).dataSync()[0]!) }),
      /read/,
    ],
    ['are no features of each image', (images: Tensor4D) => ({ x: tf.mean(images) }), /does not depend/],
    [
      'depend on the number of images otherwise',
      (images: Tensor4D) => ({ x: tf.mul(images, tf.sqrt(images.shape[0])) }),
      /any number of images/,
    ],
  ])('are refused where they %s', async (_, encode, why) => {
    await expect(exportOnnx({ imageShape, encode, tensors: {} }, {})).rejects.toThrow(why)
  })
})
