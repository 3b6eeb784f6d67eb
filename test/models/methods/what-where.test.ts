import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Corpus } from '../../../src/data/dataset.ts'
import { toUnit } from '../../../src/data/pixels.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import type { Batch, Learner } from '../../../src/models/method.ts'
import { swwae } from '../../../src/models/methods/swwae.ts'
import { whatWhere } from '../../../src/models/methods/what-where.ts'
import { small } from '../../../src/models/nets/small.ts'
import { tf } from '../../../src/tf.ts'
import { buildTiny, defaultsOf, tinyCorpus } from '../tiny.ts'

let corpus: Corpus
let batch: Batch

beforeAll(async () => {
  await chooseEngine('auto')
  corpus = await tinyCorpus()
  const indices = [0, 5, 9, 14, 23, 31]
  const { data, shape, labels } = await corpus.train.read(indices)
  const views = [tf.tensor4d(toUnit(data), [indices.length, ...shape])]
  batch = { views, labels: labels!, indices: Int32Array.from(indices) }
})

afterAll(() => tf.dispose(batch.views))

const buildOne = (given: Record<string, unknown>) => buildTiny(whatWhere, given, corpus).learner

/** Loss, metrics and gradients of one batch. */
function look(learner: Learner, stage?: string, of: Batch = batch) {
  return tf.tidy(() => {
    let metrics: Record<string, number> = {}
    const { value, grads } = tf.variableGrads(() => {
      const found = learner.objective(of, rollDice(1), stage)
      metrics = Object.fromEntries(Object.entries(found.metrics ?? {}).map(([name, x]) => [name, x.dataSync()[0]!]))
      return found.loss
    }, Object.values(learner.weights))
    const gradients: Record<string, Float32Array> = {}
    for (const [name, weight] of Object.entries(learner.weights))
      if (grads[weight.name]) gradients[name] = grads[weight.name]!.dataSync() as Float32Array
    return { loss: value.dataSync()[0]!, metrics, gradients }
  })
}

function change(learner: Learner, name: string, by: number): void {
  tf.tidy(() => learner.weights[name]!.assign(tf.add(learner.weights[name]!, by)))
}

const stagesOf = (given: Record<string, unknown>, world: { epochs: number; start?: string }) =>
  whatWhere.stages!(defaultsOf(whatWhere.parameters, given) as never, world).map(({ name, epochs }) => [name, epochs])

describe('what-where', () => {
  it('measures sums of squares by twice the images where the scale is raw, with the weights given', () => {
    const learner = buildOne({ scale: 'raw', image: 0.001, pools: [0.01] })
    for (const name of Object.keys(learner.weights))
      if (/^decoder\/.*filter/.test(name))
        tf.tidy(() => learner.weights[name]!.assign(tf.zerosLike(learner.weights[name]!)))
    // With filters of 0 the reconstructions are the biases: of the image 0.5 in each channel, of the pool 2.
    change(learner, 'decoder/conv1/bias', 0.5)
    change(learner, 'decoder/conv2/bias', 2)
    const { block1 } = learner.encode(batch.views[0]!, ['block1'])
    const images = batch.views[0]!.dataSync()
    const target = block1!.dataSync()
    const mean = learner.memory['targets/mean'] as Float32Array
    mean.fill(0.25)
    const squares = (values: ArrayLike<number>, of: number) =>
      Array.from(values, (x) => (of - x) ** 2).reduce((a, b) => a + b)
    const { metrics } = look(learner, 'layerwise')
    expect(metrics.imageError).toBeCloseTo(squares(images, 0.5 + 0.25) / (2 * 6), 2)
    expect(metrics.block1Error! / (squares(target, 2) / (2 * 6))).toBeCloseTo(1, 5)
    const joint = look(learner, 'joint')
    const { crossEntropy, imageError, block1Error } = joint.metrics
    expect(joint.loss).toBeCloseTo(crossEntropy! + 0.001 * imageError! + 0.01 * block1Error!, 5)
    block1!.dispose()
    learner.dispose()
  })

  it('measures means of squares by the variance measured before, where the scale is normalised', async () => {
    const learner = buildOne({})
    await learner.survey!(corpus.train, 0, rollDice(2), {})
    const variance = learner.memory['targets/variance'] as Float32Array
    const { data } = await corpus.train.read(Array.from({ length: corpus.train.size }, (_, i) => i))
    const pixels = toUnit(data)
    const mean = pixels.reduce((a, b) => a + b, 0) / pixels.length
    expect(variance[0]).toBeCloseTo(pixels.reduce((a, b) => a + (b - mean) ** 2, 0) / pixels.length, 4)
    const [once, before] = [look(learner, 'stacked').metrics.imageError!, variance[0]!]
    variance[0] = before / 2
    expect(look(learner, 'stacked').metrics.imageError! / once).toBeCloseTo(2, 4)
    learner.dispose()
  })

  it('lets no decoder change the loss of another where they learn layerwise', () => {
    for (const [given, stage] of [
      [{ losses: 'layerwise' }, 'joint'],
      [{ losses: 'all' }, 'layerwise'],
    ] as const) {
      const learner = buildOne(given)
      const before = look(learner, stage).metrics
      change(learner, 'decoder/conv2/filter', 0.1)
      const after = look(learner, stage).metrics
      expect(after.imageError).toBe(before.imageError)
      expect(after.block1Error).not.toBe(before.block1Error)
      learner.dispose()
    }
    const stacked = buildOne({ losses: 'all' })
    const before = look(stacked, 'joint').metrics.imageError
    change(stacked, 'decoder/conv2/filter', 0.1)
    expect(look(stacked, 'joint').metrics.imageError).not.toBe(before)
    stacked.dispose()
  })

  it('has gradients on decoders from the image alone where that is the only loss', () => {
    const gradients = [0, 0.2, 5].map((pools) => {
      const learner = buildOne({ losses: 'first', pools })
      const found = look(learner, 'joint')
      expect(Object.keys(found.metrics).sort()).toEqual(['accuracy', 'crossEntropy', 'imageError'])
      learner.dispose()
      return found.gradients
    })
    expect(gradients[1]).toEqual(gradients[0])
    expect(gradients[2]).toEqual(gradients[0])
    const without = buildOne({ losses: 'first', image: 0 })
    const { gradients: none } = look(without, 'joint')
    for (const name of Object.keys(none))
      if (name.startsWith('decoder/')) expect(none[name]!.every((value) => value === 0)).toBe(true)
    without.dispose()
  })

  it('moves what is to be reconstructed as well, unless it is to stay', () => {
    const [moving, still] = (['moving', 'still'] as const).map((targets) => {
      const learner = buildOne({ losses: 'layerwise', image: 0, targets })
      const { gradients, loss } = look(learner, 'joint')
      learner.dispose()
      return { loss, filter: gradients['conv1/filter']!, decoder: gradients['decoder/conv2/filter'] }
    })
    expect(still!.loss).toBe(moving!.loss)
    expect(still!.decoder).toEqual(moving!.decoder)
    expect(still!.filter).not.toEqual(moving!.filter)
  })

  it('leaves the net as it is while decoders learn, running statistics included', () => {
    const learner = buildOne({})
    const state = () =>
      Object.entries({ ...learner.memory, ...learner.weights })
        .filter(([name]) => !name.startsWith('decoder/'))
        .map(([name, part]) => [name, 'length' in part ? part.slice() : part.dataSync()])
    const before = state()
    const pattern = whatWhere.stages!(defaultsOf(whatWhere.parameters) as never, { epochs: 6 })[1]!.learns!
    const learning = Object.entries(learner.weights).filter(([name]) => pattern.test(name))
    for (const stage of ['layerwise', 'stacked'])
      tf.tidy(() => {
        const { grads } = tf.variableGrads(
          () => learner.objective(batch, rollDice(1), stage).loss,
          learning.map(([, weight]) => weight),
        )
        for (const [name, weight] of learning) {
          expect(grads[weight.name], name).toBeDefined()
          weight.assign(tf.sub(weight, tf.mul(grads[weight.name]!, 0.01)))
        }
      })
    expect(state()).toEqual(before)
    look(learner, 'joint')
    expect(state()).not.toEqual(before)
    learner.dispose()
  })

  it('has the phases of the paper; those that do not apply are left out', () => {
    const all = [
      ['classifier', 3],
      ['layerwise', 2],
      ['stacked', 1],
      ['joint', 4],
    ]
    expect(stagesOf({}, { epochs: 10 })).toEqual(all)
    expect(stagesOf({}, { epochs: 10, start: 'supervised' })).toEqual(all.slice(1))
    expect(stagesOf({}, { epochs: 10, start: 'npid' })).toEqual(all)
    expect(stagesOf({ losses: 'layerwise' }, { epochs: 10 })).toEqual([all[0], all[1], ['joint', 5]])
    expect(stagesOf({ pathway: 'none' }, { epochs: 7 })).toEqual([all[0], all[3]])
    // Too few epochs: the sum tells how many there should be.
    expect(stagesOf({}, { epochs: 5 }).at(-1)).toEqual(['joint', 0])
  })

  it('has a head named as that of a supervised learner, and biases of their own kind where that is wanted', () => {
    const learner = buildOne({ biases: 'double' })
    expect(Object.keys(learner.weights)).toEqual(expect.arrayContaining(['head/weights', 'head/bias', 'conv1/filter']))
    expect(learner.groups).toEqual([{ weights: /\/bias$/, learningRate: 2, weightDecay: 0 }])
    learner.dispose()
  })

  it('is refused with weights for other pools than there are, or on a net without pools', () => {
    const planOf = (given: Record<string, unknown>, net: Record<string, unknown> = {}) =>
      whatWhere.plan(defaultsOf(whatWhere.parameters, given) as never, {
        net: small.plan(defaultsOf(small.parameters, { widths: [4, 6], ...net }) as never, [12, 12, 1]),
        size: 48,
        classes: 4,
      })
    expect(() => planOf({ pools: [1, 2] })).toThrow(/\/pools: has 2 weights; 1 pools .* it should have 1/)
    expect(() => planOf({}, { pool: 'average' })).toThrow(/mirror of maximum pools/)
    expect(planOf({ pathway: 'none' }, { pool: 'average' }).weights).toBeLessThan(planOf({}).weights)
    expect(planOf({ pools: [1] })).toEqual(planOf({}))
  })

  it('draws images above their reconstructions, and says how far off they are', async () => {
    const learner = buildOne({})
    await learner.survey!(corpus.train, 0, rollDice(2), {})
    const before = tf.memory().numTensors
    const [png, svg] = await learner.pictures!(corpus, rollDice(3), {})
    expect(tf.memory().numTensors).toBe(before)
    expect(png).toMatchObject({ name: 'reconstructions', type: 'image/png' })
    expect([...png!.bytes.slice(1, 4)]).toEqual([...'PNG'].map((letter) => letter.charCodeAt(0)))
    const text = new TextDecoder().decode(svg!.bytes)
    const errors = JSON.parse(/<desc>(.*)<\/desc>/.exec(text)![1]!) as Record<string, number>
    expect(Object.keys(errors)).toEqual(['pool1', 'pool2'])
    for (const error of Object.values(errors)) expect(error).toBeGreaterThan(0)
    learner.dispose()
  })
})

describe('swwae', () => {
  const unlabelled = (): Batch => ({ ...batch, labels: new Int32Array(6).fill(-1) })

  it('drops the classification of images without a label', () => {
    const { learner } = buildTiny(swwae, {}, corpus)
    const none = unlabelled()
    const some = { ...batch, labels: Int32Array.of(1, -1, -1, -1, -1, -1) }
    const one = { ...batch, labels: Int32Array.of(1, 0, 2, 0, 1, 3) }
    const [without, all] = [look(learner, undefined, none), look(learner, undefined, one)]
    expect(without.metrics.crossEntropy).toBe(0)
    expect(Math.max(...without.gradients['head/bias']!)).toBe(0)
    expect(without.metrics.imageError).toBeCloseTo(all.metrics.imageError!, 5)
    const logits = tf.tidy(() => look(learner, undefined, some).metrics.crossEntropy!)
    expect(logits).toBeGreaterThan(0)
    learner.dispose()
  })

  it('learns nothing of its net from labels where it is not supervised', () => {
    const gradients = [batch, unlabelled()].map((of) => {
      const { learner } = buildTiny(swwae, { supervision: 'none' }, corpus)
      const { gradients: found } = look(learner, undefined, of)
      learner.dispose()
      return found
    })
    for (const name of Object.keys(gradients[0]!).filter((name) => !name.startsWith('head/')))
      expect(gradients[0]![name], name).toEqual(gradients[1]![name])
    expect(gradients[0]!['head/weights']).not.toEqual(gradients[1]!['head/weights'])
  })

  it('learns from images without any labels, and is refused as a classifier of them', () => {
    const parameters = (given: Record<string, unknown>) => defaultsOf(swwae.parameters, given) as never
    const world = { size: 48, classes: 0, batchSize: 16 }
    expect(swwae.check!(parameters({}), world)).toMatchObject([{ pointer: '/supervision' }])
    expect(swwae.check!(parameters({ supervision: 'none' }), world)).toEqual([])
    expect(swwae.check!(parameters({ supervision: 'none', reconstruction: 0, middle: 0 }), world)).toMatchObject([
      { pointer: '/reconstruction' },
    ])
    const bare = { ...corpus, train: { ...corpus.train, classes: 0, size: 48, imageShape: corpus.train.imageShape } }
    const { learner } = buildTiny(swwae, { supervision: 'none' }, bare as never)
    expect(Object.keys(learner.taps)).not.toContain('logits')
    const { labels: _, ...images } = batch
    expect(Object.keys(look(learner, undefined, images).metrics)).toEqual(['imageError', 'block1Error'])
    learner.dispose()
  })
})
