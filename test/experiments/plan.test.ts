import { describe, expect, it } from 'vitest'
import { InvalidDefinition } from '../../src/errors.ts'
import { chosenUnits } from '../../src/experiments/chosen.ts'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { memoryBytes } from '../../src/experiments/memory-context.ts'
import { planExperiment } from '../../src/experiments/plan.ts'
import { viewsOf } from '../../src/experiments/views.ts'
import { tf } from '../../src/tf.ts'
import { folderBytes, shipped } from '../folder-bytes.ts'

const bytes = folderBytes(shipped)

const example = {
  version: 1,
  name: 'plan',
  dataset: { name: 'fashion-mnist-12k', limit: 9000 },
  net: { name: 'small', widths: [16, 32, 64] },
  method: { name: 'npid', dimension: 128 },
  training: { epochs: 8, batchSize: 128, optimizer: { name: 'sgd' } },
  evaluations: [{ name: 'nearest-neighbours', k: [1, 5] }],
}

async function faultsOf(changes: object, source = bytes) {
  const definition = parseDefinition({ ...example, ...changes })
  const error = await planExperiment(definition, source).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(InvalidDefinition)
  return (error as InvalidDefinition).faults
}

describe('a plan', () => {
  it('counts what the small net does to a grey image of 28 x 28 as one does by hand', async () => {
    const before = tf.memory().numTensors
    const plan = await planExperiment(parseDefinition(example), bytes)
    expect(tf.memory().numTensors).toBe(before)
    // conv 3x3 over 28 x 28 from 1 to 16, over 14 x 14 from 16 to 32, over 7 x 7 from 32 to 64: 1.92 million.
    const convolutions = 784 * 9 * 16 + 196 * 9 * 16 * 32 + 49 * 9 * 32 * 64
    expect(convolutions / 1e6).toBeCloseTo(1.92, 2)
    // 64 maps of 3 x 3 into 128 numbers.
    expect(plan.multiplyAddsPerImage).toBe(convolutions + 576 * 128)
    const norms = 2 * (16 + 32 + 64)
    const weights = 9 * (16 + 16 * 32 + 32 * 64) + norms + 576 * 128 + 128
    expect(plan.weights).toBe(weights)
    expect(plan.images).toEqual({ train: 9000, test: 2000 })
    expect([plan.stepsPerEpoch, plan.steps, plan.runs]).toEqual([70, 560, 1])
    expect([plan.imageShape, plan.classes, plan.embeddingDimension]).toEqual([[28, 28, 1], 10, 128])
    // Weights and their momentum, the bank with its Z, running means and variances.
    expect(plan.checkpointBytes).toBe(4 * (2 * weights + 9000 * 128 + 2 + norms))
    expect(plan.diskBytes).toBe(3 * plan.checkpointBytes + 11_000 * (2 * 128 * 4 + 16) + 560 * 480)
    const halved = await planExperiment(parseDefinition({ ...example, embeddings: { dtype: 'f16' } }), bytes)
    expect(plan.diskBytes - halved.diskBytes).toBe(11_000 * 2 * 128 * 2)
    expect(plan.memoryBytes).toBeGreaterThan(11_000 * 784 * 5 + plan.checkpointBytes)
    expect(plan.definition.training.optimizer).toMatchObject({ momentum: 0.9 })
  })

  it('of a corpus of a hundred million images is made at once, or refused where their bank fits into no engine', async () => {
    const dataset = { name: 'shapes', images: 100_000_000, height: 224, width: 224, channels: 3 }
    const planFor = (dimension: number) => {
      const method = { ...example.method, dimension }
      return planExperiment(parseDefinition({ ...example, dataset, method, evaluations: [] }), memoryBytes())
    }
    const plan = await planFor(4)
    expect(plan.images.train).toBe(100_000_000)
    expect(plan.memoryBytes).toBeGreaterThan(100_000_000 * 4 * 4)
    await expect(planFor(128)).rejects.toMatchObject({
      faults: [
        { pointer: '/method/dimension', detail: expect.stringMatching(/takes up to 2.00 GiB in one piece; 5 numbers/) },
      ],
    })
  })

  it('of a large net asks for the memory that a machine for it has, evaluations included only where they hold much', async () => {
    const dataset = {
      name: 'declared',
      of: 'ImageNet',
      images: 1_281_167,
      testImages: 50_000,
      classes: 1000,
      height: 224,
      width: 224,
    }
    const large = { ...example, dataset, net: { name: 'vgg' }, training: { ...example.training, batchSize: 64 } }
    const plan = await planExperiment(parseDefinition({ ...large, evaluations: [] }), memoryBytes())
    // A batch's activations alone are 7.4 GB; the weights, their gradients and slots 1.6 GB.
    const [least, most] = [9e9, 32e9]
    expect(plan.memoryBytes).toBeGreaterThan(least)
    expect(plan.memoryBytes).toBeLessThan(most)
    // They are in the GPU's memory where it computes on one.
    const onGpu = await planExperiment(
      parseDefinition({ ...large, resources: { gpu: true }, evaluations: [] }),
      memoryBytes(),
    )
    expect(plan.memoryBytes - onGpu.memoryBytes).toBeGreaterThan(7.4e9)
    expect(onGpu.memoryBytes).toBeGreaterThan(1.6e9)
    const measured = await planExperiment(
      parseDefinition({ ...large, evaluations: [{ name: 'nearest-neighbours' }] }),
      {
        ...memoryBytes(),
      },
    )
    // All images as floats, which that evaluation reads.
    expect(measured.memoryBytes).toBeGreaterThan(1_281_167 * 224 * 224 * 3 * 4)
    expect(plan.taps).toMatchObject({ conv1_1: [224, 224, 64], relu5_3: [14, 14, 512], pool5: [7, 7, 512] })
  })

  it('of a missing dataset says how to get it', async () => {
    const faults = await faultsOf({ dataset: { name: 'fashion-mnist' } })
    expect(faults.map(({ pointer }) => pointer)).toEqual(['/dataset/name'])
    expect(faults[0]!.detail).toMatch(/are not here: .*; add it: gestalt dataset add fashion-mnist --from DIR\|URL/)
  })

  it('refuses more images than there are', async () => {
    const faults = await faultsOf({ dataset: { name: 'fashion-mnist-12k', limit: 10_001 } })
    expect(faults).toEqual([{ pointer: '/dataset/limit', detail: 'is 10001; there are 10000 training images' }])
  })

  it('refuses steps that the images or the epochs do not allow, each at its place', async () => {
    const dataset = { name: 'shapes', images: 64, height: 16, width: 16 }
    const training = { epochs: 2, batchSize: 16, accumulate: 2, schedule: { name: 'constant', warmUpSteps: 5 } }
    expect(await faultsOf({ dataset, training, evaluations: [], method: { name: 'npid' } })).toEqual([
      {
        pointer: '/training/schedule/warmUpSteps',
        detail: 'is 5; the training has 4 steps, so it should be at most 4',
      },
    ])
    const wide = { batchSize: 40, accumulate: 2, schedule: { name: 'decay' }, optimizer: { name: 'sgd' } }
    expect(await faultsOf({ dataset, training: wide, evaluations: [], method: { name: 'npid' } })).toEqual([
      {
        pointer: '/training/accumulate',
        detail: 'is 2, of 40 images each; there are 64 training images, so it should be at most 1',
      },
      {
        pointer: '/training/schedule/name',
        detail: "'decay' goes by the weight decay, which is 0; 'constant' would be the same",
      },
    ])
  })

  it('counts what optimiser, average and accumulation keep, and steps of several batches', async () => {
    const planned = async (training: object) =>
      planExperiment(parseDefinition({ ...example, training: { epochs: 8, ...training } }), bytes)
    const sgd = await planned({})
    const adam = await planned({ optimizer: { name: 'adam' }, averaging: 0.99, accumulate: 10 })
    expect(adam.checkpointBytes - sgd.checkpointBytes).toBe(2 * 4 * sgd.weights)
    expect([adam.stepsPerEpoch, adam.steps, adam.epochs]).toEqual([7, 56, 8])
    expect(adam.memoryBytes).toBeGreaterThan(sgd.memoryBytes)
  })

  it('tells all impossible pairs at once', async () => {
    const faults = await faultsOf({
      dataset: { name: 'shapes', images: 64, height: 8, width: 8 },
      net: { name: 'small', widths: [4, 4, 4, 4] },
      method: { name: 'npid', head: 'parametric', negatives: 5 },
      training: { batchSize: 65 },
      evaluations: [{ name: 'nearest-neighbours', k: [1, 65] }],
    })
    expect(faults.map(({ pointer }) => pointer)).toEqual([
      '/net/widths',
      '/training/batchSize',
      '/method/negatives',
      '/evaluations/0/k/1',
    ])
    expect(faults[1]!.detail).toMatch(/is 65; there are 64 training images/)
    expect(faults[3]!.detail).toMatch(/is 65; there are 64 training images/)
  })

  it('takes views in place of those of the method, and refuses ones that do not fit', async () => {
    const colour = { name: 'shapes', images: 64, channels: 3, height: 16, width: 16 }
    const training = { batchSize: 8 }
    const crop = { smallest: 0.2 }
    const given = { ...example, dataset: colour, training, views: [{ crop, flip: 0.5, jitter: { hue: 0.1 } }] }
    const { definition } = await planExperiment(parseDefinition(given), bytes)
    const jitter = { probability: 0.8, brightness: 0, contrast: 0, saturation: 0, hue: 0.1 }
    expect(definition.views).toEqual([{ flip: 0.5, crop: { smallest: 0.2, largest: 1, ratio: 4 / 3 }, jitter }])
    expect(viewsOf(definition, chosenUnits(definition))).toBe(definition.views)
    const plain = (await planExperiment(parseDefinition(example), bytes)).definition
    expect(plain).not.toHaveProperty('views')
    expect(viewsOf(plain, chosenUnits(plain))).toEqual([{ shift: 2, flip: 0.5, gamma: 1, light: 0.5, gain: 0.4 }])
    const grey = 'the images are grey and have no colour to change: 0 would be right'
    expect(await faultsOf({ views: [{ grey: 0.2, shift: 40 }, { crop: { smallest: 0.9, largest: 0.5 } }] })).toEqual([
      { pointer: '/views', detail: "has 2; 'npid' draws one view of an image, so there should be 1" },
      { pointer: '/views/0/shift', detail: 'is 40; the images have sides of 28: less would be right' },
      { pointer: '/views/0/grey', detail: grey },
      { pointer: '/views/1/crop/smallest', detail: 'is 0.9; it should be at most the largest, 0.5' },
    ])
    expect(() => parseDefinition({ ...example, views: [{ crop: { scale: 0.2 }, flip: 2 }] })).toThrow(
      /\/views\/0\/crop\/scale.*\/views\/0\/flip|\/views\/0\/flip.*\/views\/0\/crop\/scale/s,
    )
  })

  it('counts what a decoder makes beside the net', async () => {
    const memoryOf = async (pathway: string, batchSize: number) => {
      const method = { name: 'what-where', pathway, losses: 'first', classifier: { epochs: 0 } }
      const phases = { layerwise: { epochs: 0 }, stacked: { epochs: 0 } }
      const training = { ...example.training, epochs: 1, batchSize }
      const definition = parseDefinition({ ...example, method: { ...method, ...phases }, training, evaluations: [] })
      return (await planExperiment(definition, bytes)).memoryBytes
    }
    const perImage = async (pathway: string) =>
      ((await memoryOf(pathway, 1128)) - (await memoryOf(pathway, 128))) / 1000
    // Unpooled to 7 x 7, 14 x 14 and 28 x 28, and each decoded there, twice but for the pixels.
    const made = 49 * (64 + 2 * 32) + 196 * (32 + 2 * 16) + 784 * (16 + 1)
    expect((await perImage('swwae')) - (await perImage('none'))).toBeCloseTo(2.5 * 4 * made, 0)
  })

  it('counts the features that clusters of the embedding are found in', async () => {
    const memoryOf = async (evaluations: object[]) =>
      (await planExperiment(parseDefinition({ ...example, evaluations }), bytes)).memoryBytes
    const features = 4 * (11_000 * 128 + 2 * 11_000 * 64 + 128 * 128)
    const [none, some] = [await memoryOf([]), await memoryOf([{ name: 'cluster-agreement' }])]
    expect(some - none).toBeCloseTo(1.75 * features, -1)
  })
})
