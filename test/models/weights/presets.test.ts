import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { nets } from '../../../src/models/nets/index.ts'
import type { NetFamily } from '../../../src/models/nets/net.ts'
import { putTensor } from '../../../src/models/state.ts'
import { arrange, foreignShape } from '../../../src/models/weights/layout.ts'
import { applyMap, byAxes, ruleOf } from '../../../src/models/weights/name-map.ts'
import { presets } from '../../../src/models/weights/presets.ts'
import { type Tensor, tf } from '../../../src/tf.ts'
import { defaultsOf } from '../tiny.ts'

const side = [224, 224, 3] as const

function family(name: string, given: Record<string, unknown>) {
  const unit = (nets as unknown as Record<string, NetFamily>)[name]!
  return { unit, parameters: defaultsOf(unit.parameters, given) }
}

describe('a preset', () => {
  it.each([
    ['torchvision-alexnet', 'alexnet', { widths: [64, 192, 384, 256, 256], groups: 1 }],
    ['torchvision-vgg11', 'vgg', { depth: 11 }],
    ['torchvision-vgg16', 'vgg', { depth: 16 }],
    ['torchvision-vgg16-bn', 'vgg', { depth: 16, norm: 'batch' }],
    ['torchvision-vgg19', 'vgg', { depth: 19 }],
    ['torchvision-resnet18', 'resnet', { depth: 18 }],
    ['torchvision-resnet34', 'resnet', { depth: 34 }],
    ['torchvision-resnet50', 'resnet', { depth: 50 }],
    ['torchvision-resnet101', 'resnet', { depth: 101 }],
  ])('%s names every tensor of its net, and no other but the head', (preset, name, given) => {
    const { unit, parameters } = family(name, given)
    const { tensors } = unit.plan(parameters, side)
    const ours = Object.values(presets[preset]!.tensors).map((given) => ruleOf(given).to)
    expect(ours.filter((name) => !name.startsWith('weights/head/')).sort()).toEqual(Object.keys(tensors).sort())
  })

  it('that torchvision would give VGG-16 has these names', () => {
    const names = Object.keys(presets['torchvision-vgg16']!.tensors).filter((name) => name.endsWith('.weight'))
    const numbers = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28].map((at) => `features.${at}.weight`)
    expect(names).toEqual([...numbers, 'classifier.0.weight', 'classifier.3.weight', 'classifier.6.weight'])
  })
})

// An AlexNet of few channels in the order of PyTorch, by the definitions of its layers alone.

interface Planes {
  data: Float32Array
  sides: [channels: number, height: number, width: number]
}

function conv(
  x: Planes,
  weight: Float32Array,
  bias: Float32Array,
  kernel: number,
  stride: number,
  pad: number,
): Planes {
  const [from, height, width] = x.sides
  const [h, w] = [height, width].map((n) => Math.floor((n + 2 * pad - kernel) / stride) + 1) as [number, number]
  const data = new Float32Array(bias.length * h * w)
  let at = 0
  for (let o = 0; o < bias.length; o++)
    for (let y = 0; y < h; y++)
      for (let z = 0; z < w; z++, at++) {
        let sum = bias[o]!
        for (let i = 0; i < from; i++)
          for (let ky = 0; ky < kernel; ky++)
            for (let kx = 0; kx < kernel; kx++) {
              const [row, column] = [y * stride + ky - pad, z * stride + kx - pad]
              if (row < 0 || column < 0 || row >= height || column >= width) continue
              sum +=
                x.data[(i * height + row) * width + column]! * weight[((o * from + i) * kernel + ky) * kernel + kx]!
            }
        data[at] = Math.max(0, sum)
      }
  return { data, sides: [bias.length, h, w] }
}

function pool({ data, sides: [channels, height, width] }: Planes): Planes {
  const [h, w] = [height, width].map((n) => Math.floor((n - 3) / 2) + 1) as [number, number]
  const made = Float32Array.from({ length: channels * h * w }, (_, at) => {
    const [c, y, z] = [Math.floor(at / (h * w)), Math.floor(at / w) % h, at % w]
    const cells = Array.from(
      { length: 9 },
      (_, k) => (c * height + 2 * y + Math.floor(k / 3)) * width + 2 * z + (k % 3),
    )
    return Math.max(...cells.map((cell) => data[cell]!))
  })
  return { data: made, sides: [channels, h, w] }
}

function linear(x: Float32Array, weight: Float32Array, bias: Float32Array): Float32Array {
  return bias.map((start, o) =>
    Math.max(
      0,
      x.reduce((sum, value, i) => sum + value * weight[o * x.length + i]!, start),
    ),
  )
}

const mean = [0.485, 0.456, 0.406]
const deviation = [0.229, 0.224, 0.225]

function reference(image: Float32Array, file: Record<string, Float32Array>): Float32Array {
  const [height, width] = side
  const input = Float32Array.from(image, (_, at) => {
    const [c, rest] = [Math.floor(at / (height * width)), at % (height * width)]
    return (image[rest * 3 + c]! - mean[c]!) / deviation[c]!
  })
  let x: Planes = { data: input, sides: [3, height, width] }
  const windows = [
    [0, 11, 4, 2],
    [3, 5, 1, 2],
    [6, 3, 1, 1],
    [8, 3, 1, 1],
    [10, 3, 1, 1],
  ] as const
  for (const [at, kernel, stride, pad] of windows) {
    x = conv(x, file[`features.${at}.weight`]!, file[`features.${at}.bias`]!, kernel, stride, pad)
    if (at === 0 || at === 3 || at === 10) x = pool(x)
  }
  const first = linear(x.data, file['classifier.1.weight']!, file['classifier.1.bias']!)
  return linear(first, file['classifier.4.weight']!, file['classifier.4.bias']!)
}

describe('imported weights', () => {
  beforeAll(() => chooseEngine('cpu', { threads: 1 }))

  it('make the features that they made elsewhere', () => {
    const { unit, parameters } = family('alexnet', {
      ...{ widths: [3, 2, 4, 3, 2], groups: 1, dense: [5, 4], input: 'imagenet' },
    })
    const net = unit.build(parameters, side, 1)
    const map = presets['torchvision-alexnet']!
    const dice = rollDice(7).for('file')
    const file: Record<string, Float32Array> = {}
    const shapes: Record<string, { dtype: string; shape: readonly number[] }> = {}
    for (const [name, given] of Object.entries(map.tensors)) {
      const { to, layout, cells } = ruleOf(given)
      const ours = net.plan.tensors[to]
      if (!ours) continue
      const arrangement = { layout: layout ?? byAxes(ours.length), cells: cells as [number, number] | undefined }
      const shape = foreignShape(arrangement, ours)!
      const inputs = shape.slice(1).reduce((a, b) => a * b, 1)
      shapes[name] = { dtype: 'F32', shape }
      const length = shape.reduce((a, b) => a * b)
      file[name] = Float32Array.from({ length }, () => (1.5 * dice.normal()) / Math.sqrt(inputs))
    }
    const { mapped, faults } = applyMap(map, shapes)
    expect(faults).toEqual([])
    for (const entry of mapped) {
      const data = arrange(entry, shapes[entry.from]!.shape, file[entry.from]!)
      putTensor(net, entry.to, { dtype: 'F32', shape: entry.shape, data })
    }
    const image = Float32Array.from({ length: 224 * 224 * 3 }, () => dice.uniform())
    const found = tf.tidy(() => [
      ...(net.forward(tf.tensor4d(image, [1, ...side]), ['relu7'], false).relu7 as Tensor).dataSync(),
    ])
    const wanted = [...reference(image, file)]
    expect(wanted.some((value) => value > 0.01)).toBe(true)
    expect(found).toEqual(wanted.map((value) => expect.closeTo(value, 4)))
    tf.dispose([net.weights, net.memory])
  })
})
