import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import type { ImageShape } from '../../../src/data/dataset.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { InvalidDefinition } from '../../../src/errors.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { nets } from '../../../src/models/nets/index.ts'
import { beforeRelu, type Net, type NetFamily, type NetPlan } from '../../../src/models/nets/net.ts'
import { type Tensor4D, tf, type Variable } from '../../../src/tf.ts'
import { defaultsOf } from '../tiny.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

type Name = keyof typeof nets
type Given = Record<string, unknown>

const familyOf = (name: Name) => nets[name] as unknown as NetFamily
const plan = (name: Name, given: Given, shape: ImageShape): NetPlan =>
  familyOf(name).plan(defaultsOf(nets[name].parameters, given), shape)
const build = (name: Name, given: Given, shape: ImageShape): Net =>
  familyOf(name).build(defaultsOf(nets[name].parameters, given), shape, 3)

const sizeOf = (shape: readonly number[]) => shape.reduce((product, side) => product * side, 1)
const large: ImageShape = [224, 224, 3]

/** What `supervised` has with 1,000 classes: the net, and a dense layer from its top. */
function withHead({ weights, multiplyAdds, taps, top }: NetPlan) {
  const inputs = sizeOf(taps[top]!)
  return { weights: weights + 1000 * inputs + 1000, multiplyAdds: multiplyAdds + 1000 * inputs }
}

const oneColumn = { widths: [64, 192, 384, 256, 256], groups: 1, dropoutAt: 'before' }
const deepcluster = { groups: 1, norm: 'batch', input: 'sobel', drawing: 'fan-out', dropoutAt: 'before' }

/** Cells of the result, kernel, channels that one number sees, channels. */
const convolution = ([side, kernel, from, to]: readonly number[]) => side! ** 2 * kernel! ** 2 * from! * to!
const sum = (rows: readonly (readonly number[])[]) => rows.reduce((total, row) => total + convolution(row), 0)
const times = (count: number, rows: number[][]) => Array.from({ length: count }, () => rows).flat()

const byHand = {
  vgg16:
    sum([
      [224, 3, 3, 64],
      [224, 3, 64, 64],
      [112, 3, 64, 128],
      [112, 3, 128, 128],
      [56, 3, 128, 256],
      ...times(2, [[56, 3, 256, 256]]),
      [28, 3, 256, 512],
      ...times(2, [[28, 3, 512, 512]]),
      ...times(3, [[14, 3, 512, 512]]),
    ]) +
    25_088 * 4096 +
    4096 * 4096 +
    4096 * 1000,
  alexnet:
    sum([
      [55, 11, 3, 96],
      [27, 5, 48, 256],
      [13, 3, 256, 384],
      [13, 3, 192, 384],
      [13, 3, 192, 256],
    ]) +
    9216 * 4096 +
    4096 * 4096 +
    4096 * 1000,
  resnet18:
    sum([
      [112, 7, 3, 64],
      ...times(4, [[56, 3, 64, 64]]),
      ...[64, 128, 256].flatMap((from, i) => {
        const [side, to] = [28 / 2 ** i, 2 * from]
        return [[side, 3, from, to], ...times(3, [[side, 3, to, to]]), [side, 1, from, to]]
      }),
    ]) +
    512 * 1000,
  resnet50:
    sum([
      [112, 7, 3, 64],
      [56, 1, 64, 64],
      [56, 1, 64, 256],
      ...times(2, [
        [56, 1, 256, 64],
        [56, 1, 64, 256],
      ]),
      ...times(3, [[56, 3, 64, 64]]),
      [56, 1, 64, 256],
      ...[4, 6, 3].flatMap((blocks, i) => {
        const [side, inner] = [28 / 2 ** i, 128 * 2 ** i]
        const [from, to] = [2 * inner, 4 * inner]
        return [
          [2 * side, 1, from, inner],
          [side, 1, from, to],
          ...times(blocks - 1, [[side, 1, to, inner]]),
          ...times(blocks, [
            [side, 3, inner, inner],
            [side, 1, inner, to],
          ]),
        ]
      }),
    ]) +
    2048 * 1000,
}

describe('published nets', () => {
  it.each<[string, Name, Given, number, number]>([
    ['VGG-16', 'vgg', {}, 138_357_544, byHand.vgg16],
    ['VGG-16 with batch norm', 'vgg', { norm: 'batch' }, 138_365_992, byHand.vgg16],
    ['AlexNet on two GPUs', 'alexnet', {}, 60_965_224, byHand.alexnet],
    ['AlexNet in one column', 'alexnet', oneColumn, 61_100_840, 714_188_480],
    ['ResNet-18', 'resnet', {}, 11_689_512, byHand.resnet18],
    ['ResNet-50', 'resnet', { depth: 50 }, 25_557_032, byHand.resnet50],
  ])('%s has the published weights, and the multiply-adds of a count by hand', (_, name, given, weights, adds) => {
    const before = tf.memory().numTensors
    expect(withHead(plan(name, given, large))).toEqual({ weights, multiplyAdds: adds })
    expect(tf.memory().numTensors).toBe(before)
  })

  it('are counted alike in docs/nets.md', () => {
    const text = readFileSync(new URL('../../../docs/nets.md', import.meta.url), 'utf8')
    const rows = [...text.matchAll(/\| `(\{.*?\})` \| ([\d,]+) \| ([\d,]+) \|/g)]
    expect(rows.length).toBeGreaterThan(5)
    for (const [, definition, ...told] of rows) {
      const { name, ...given } = JSON.parse(definition!) as { name: Name }
      const [weights, multiplyAdds] = told.map((number) => Number(number!.replaceAll(',', '')))
      expect({ name, ...withHead(plan(name, given, large)) }).toEqual({ name, weights, multiplyAdds })
    }
  })

  it('need as many operations as is said of them', () => {
    expect(byHand.vgg16).toBe(15_470_264_320)
    expect(byHand.resnet50).toBe(4_089_184_256)
    expect(byHand.resnet18).toBe(1_814_073_344)
    expect(byHand.alexnet).toBe(724_406_816)
  })

  it("include DeepCluster's AlexNet: two channels in, a bias and a norm a convolution", () => {
    const filters = 121 * 2 * 96 + 25 * 96 * 256 + 9 * (256 * 384 + 384 * 384 + 384 * 256)
    const each = 3 * (96 + 256 + 384 + 384 + 256)
    const dense = 9216 * 4096 + 4096 + 4096 * 4096 + 4096
    const found = plan('alexnet', deepcluster, large)
    expect(found.weights).toBe(filters + each + dense)
    expect(withHead(found).weights).toBe(62_369_480)
    expect(found.taps).toMatchObject({ input: [224, 224, 2], conv5: [13, 13, 256], pool5: [6, 6, 256], flat: [9216] })
    expect([found.top, beforeRelu(found, found.top)]).toEqual(['relu7', 'fc7'])
    expect(found.abilities).toEqual(['pools'])
  })

  it('have the small stem of NPID, and no pool that a decoder could go back from', () => {
    const found = plan('resnet', { stem: 'cifar' }, [32, 32, 3])
    expect(found.taps).toMatchObject({ relu1: [32, 32, 64], block4_2: [4, 4, 512], mean: [512] })
    expect(found.weights).toBe(11_689_512 - 513_000 - 64 * 3 * (49 - 9))
    expect(found.abilities).toEqual([])
  })
})

/** Small enough for a test, and with everything that the families have. */
const tiny: [Name, Given, ImageShape][] = [
  ['alexnet', { widths: [4, 6, 8, 8, 4], dense: [10, 6] }, [63, 70, 3]],
  ['alexnet', { ...deepcluster, widths: [4, 6, 8, 8, 4], dense: [10] }, [64, 64, 1]],
  ['vgg', { width: 2, dense: [6, 5], dropoutAt: 'between', input: 'imagenet' }, [32, 33, 3]],
  ['vgg', { depth: 11, width: 2, norm: 'batch', dense: [] }, [32, 32, 1]],
  ['resnet', { width: 2, stem: 'cifar', zeroLast: true }, [9, 8, 3]],
  ['resnet', { depth: 50, width: 2, input: 'mean-pixel' }, [33, 32, 3]],
]

describe.each(tiny)('%s with %j on %j', (name, given, shape) => {
  it('is what its plan says', () => {
    const planned = plan(name, given, shape)
    const before = tf.memory().numTensors
    const net = build(name, given, shape)
    const numbers = (named: Record<string, Variable>) => Object.values(named).reduce((all, { size }) => all + size, 0)
    expect(numbers(net.weights)).toBe(planned.weights)
    expect(4 * numbers(net.memory)).toBe(planned.memoryBytes)
    expect(planned.layers[0]).toMatchObject({ kind: 'input', name: 'input', input: shape })
    for (const [i, layer] of planned.layers.slice(1).entries()) expect(layer.input).toBe(planned.layers[i]!.output)
    const names = Object.keys(planned.taps)
    expect(names.at(-1)).toBe(planned.top)
    const images = tf.randomUniform([2, ...shape], 0, 1, 'float32', 2) as Tensor4D
    for (const training of [false, true]) {
      const taps = tf.tidy(() => net.forward(images, names, training, rollDice(1)))
      for (const tap of names) expect([tap, taps[tap]!.shape]).toEqual([tap, [2, ...planned.taps[tap]!]])
      tf.dispose(taps)
    }
    tf.dispose([images, net.weights, net.memory])
    expect(tf.memory().numTensors).toBe(before)
  })
})

function faultsOf(name: Name, given: Given, shape: ImageShape) {
  try {
    plan(name, given, shape)
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidDefinition)
    return (error as InvalidDefinition).faults
  }
  return []
}

describe('a net refuses', () => {
  it.each<[Name, Given, ImageShape, string, RegExp]>([
    ['vgg', {}, [28, 40, 1], '/name', /28 x 40 are too small.*pool5 is given 1 x 2 cells.*at least 32 x 32 would/],
    ['alexnet', {}, [32, 32, 3], '/name', /pool5 .*at least 63 x 63 would be right/],
    ['alexnet', { input: 'imagenet' }, [64, 64, 1], '/input', /for images of 3 channels and these have 1: 'none' or/],
    ['alexnet', { widths: [4, 6, 8, 7, 4] }, large, '/widths/3', /is 7; with 2 groups an even number/],
    ['small', { widths: [2, 2, 2, 2, 2] }, [28, 28, 1], '/widths', /allow 4 layers/],
  ])('%s %j on images of %j, and says what would have been right', (name, given, shape, pointer, detail) => {
    expect(faultsOf(name, given, shape)).toEqual([{ pointer, detail: expect.stringMatching(detail) }])
  })

  it('nothing that leaves a cell', () => {
    expect(faultsOf('vgg', {}, [32, 32, 3])).toEqual([])
    expect(faultsOf('alexnet', {}, [63, 63, 3])).toEqual([])
    expect(faultsOf('resnet', {}, [1, 1, 1])).toEqual([])
  })
})

describe('at first', () => {
  const deviation = (weight: Variable) => tf.tidy(() => Math.sqrt(tf.mean(tf.square(weight)).dataSync()[0]!))

  it("DeepCluster's weights are drawn by the outputs, those of dense layers close to 0, biases are 0", () => {
    const net = build('alexnet', { ...deepcluster, widths: [16, 24, 32, 32, 16], dense: [64, 50] }, [64, 64, 1])
    expect(deviation(net.weights['conv2/filter']!)).toBeCloseTo(Math.sqrt(2 / (25 * 24)), 2)
    expect(deviation(net.weights['conv4/filter']!)).toBeCloseTo(Math.sqrt(2 / (9 * 32)), 2)
    expect(deviation(net.weights['fc7/weights']!)).toBeCloseTo(0.01, 3)
    for (const name of ['conv1/bias', 'norm3/offset', 'fc6/bias']) expect(deviation(net.weights[name]!)).toBe(0)
    expect(deviation(net.weights['norm3/scale']!)).toBe(1)
    tf.dispose([net.weights, net.memory])
  })

  it('other weights are drawn by the inputs, groups counted', () => {
    const net = build('alexnet', { widths: [16, 24, 32, 32, 16], dense: [64, 50] }, [64, 64, 1])
    expect(net.weights['conv4/filter']!.shape).toEqual([3, 3, 16, 32])
    expect(deviation(net.weights['conv4/filter']!)).toBeCloseTo(Math.sqrt(2 / (9 * 16)), 2)
    expect(deviation(net.weights['fc7/weights']!)).toBeCloseTo(Math.sqrt(2 / 64), 1)
    tf.dispose([net.weights, net.memory])
  })

  it('a block whose last norm begins with 0 hands on what it is given', () => {
    const net = build('resnet', { width: 3, stem: 'cifar', zeroLast: true }, [8, 8, 3])
    const images = tf.randomUniform([2, 8, 8, 3], 0, 1, 'float32', 2) as Tensor4D
    const taps = tf.tidy(() => net.forward(images, ['relu1', 'block1_1/norm1', 'sum1_2', 'block1_2'], true))
    expect(taps.block1_2!.dataSync()).toEqual(taps.relu1!.dataSync())
    expect(taps.sum1_2!.dataSync()).toEqual(taps.relu1!.dataSync())
    tf.dispose([images, taps, net.weights, net.memory])
  })
})

describe('the input of a net', () => {
  const pixels = Float32Array.from({ length: 3 * 4 * 3 }, (_, i) => ((7 * i) % 11) / 11)
  const seen = (kind: string, channels: 1 | 3) => {
    const shape: ImageShape = [3, 4, channels]
    const net = build('resnet', { width: 1, stem: 'cifar', input: kind }, shape)
    const images = tf.tensor4d(pixels.slice(0, 12 * channels), [1, ...shape])
    const { input } = tf.tidy(() => net.forward(images, ['input'], true))
    const values = input!.dataSync()
    tf.dispose([images, input!, net.weights, net.memory])
    return values
  }
  const mean = [0.485, 0.456, 0.406]
  const deviation = [0.229, 0.224, 0.225]

  it('is the image, or what is left without the mean pixel, or the standardised image', () => {
    expect(seen('none', 3)).toEqual(pixels)
    const [centred, standard] = [seen('mean-pixel', 3), seen('imagenet', 3)]
    for (const [i, value] of pixels.entries()) {
      expect(centred[i]).toBeCloseTo(value - mean[i % 3]!, 6)
      expect(standard[i]).toBeCloseTo((value - mean[i % 3]!) / deviation[i % 3]!, 5)
    }
  })

  it.each([1, 3] as const)('is what Sobel filters find in images of %i channels', (channels) => {
    const grey = Array.from({ length: 12 }, (_, i) => {
      if (channels === 1) return pixels[i]!
      return [0, 1, 2].reduce((all, c) => all + (pixels[3 * i + c]! - mean[c]!) / deviation[c]! / 3, 0)
    })
    const at = (y: number, x: number) => (y < 0 || y > 2 || x < 0 || x > 3 ? 0 : grey[4 * y + x]!)
    const found = seen('sobel', channels)
    for (let y = 0; y < 3; y++)
      for (let x = 0; x < 4; x++) {
        const side = (step: number) => at(y - 1, x + step) + 2 * at(y, x + step) + at(y + 1, x + step)
        const row = (step: number) => at(y + step, x - 1) + 2 * at(y + step, x) + at(y + step, x + 1)
        expect(found[2 * (4 * y + x)]).toBeCloseTo(side(-1) - side(1), 4)
        expect(found[2 * (4 * y + x) + 1]).toBeCloseTo(row(-1) - row(1), 4)
      }
  })
})
