import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../src/engine/choose.ts'
import { Damaged, Diverged } from '../../src/errors.ts'
import { type Definition, parseDefinition } from '../../src/experiments/definition.ts'
import { trainingFingerprint } from '../../src/experiments/fingerprint.ts'
import {
  createMemoryContext,
  type MemoryContext,
  type MemoryContextOptions,
  memoryBytes,
} from '../../src/experiments/memory-context.ts'
import { keepPictures, perform } from '../../src/experiments/perform.ts'
import { build, prepare } from '../../src/experiments/work.ts'
import { tf } from '../../src/tf.ts'

const definition = parseDefinition({
  version: 1,
  name: 'small',
  seed: 11,
  dataset: { name: 'shapes', images: 60, testImages: 20, classes: 4, height: 8, width: 8, clutter: 0 },
  net: { name: 'small', widths: [4, 6] },
  method: { name: 'npid', dimension: 8, bankStart: 'features', negatives: 6, zMode: 'ema', proximal: 1 },
  training: {
    epochs: 3,
    batchSize: 12,
    optimizer: { name: 'sgd', learningRate: 0.02, momentum: 0.9, weightDecay: 0.001 },
    schedule: { name: 'cosine', warmUpSteps: 3 },
    checkpointEverySteps: 4,
  },
  evaluations: [{ name: 'nearest-neighbours', k: [1, 5] }],
})
const steps = 15

/** A context whose `stop` is raised once a progress is told that `when` holds of. */
function stopping(when: (context: MemoryContext) => boolean, options: MemoryContextOptions = {}): MemoryContext {
  const controller = new AbortController()
  const context = createMemoryContext(memoryBytes(), { ...options, stop: controller.signal })
  const { progress } = context
  context.progress = (at) => {
    progress(at)
    if (when(context)) controller.abort('cancelled')
  }
  return context
}

const lastProgress = (context: MemoryContext) => context.recorded.progress.at(-1)!

/** Everything that must not depend on where a run was stopped: the speed alone may differ. */
function metricsOf(...contexts: MemoryContext[]) {
  return contexts
    .flatMap(({ recorded }) => recorded.metrics)
    .flatMap(({ step, values }) => Object.entries(values).map(([name, value]) => ({ step, name, value })))
    .filter(({ name }) => !['imagesPerSecond', 'waitShare'].includes(name))
}

let straight: MemoryContext

beforeAll(async () => {
  await chooseEngine('auto')
  straight = createMemoryContext(memoryBytes())
  await perform(definition, straight)
})

describe('a run', () => {
  it('trains, evaluates and exports, in this order, and leaves all of it in its context', () => {
    const { recorded } = straight
    expect([...new Set(recorded.progress.map(({ stage }) => stage))]).toEqual([
      'preparing',
      'training',
      'evaluating',
      'exporting',
    ])
    const shares = recorded.progress.map(({ share }) => share)
    expect(shares).toEqual([...shares].sort((a, b) => a - b))
    expect([shares[0], shares.at(-1)]).toEqual([0, 1])
    expect(lastProgress(straight)).toMatchObject({ step: steps, steps, epoch: 3, epochs: 3, secondsLeft: 0 })
    const losses = metricsOf(straight).filter(({ name }) => name === 'loss')
    expect(losses.map(({ step }) => step)).toEqual(Array.from({ length: steps }, (_, i) => i + 1))
    expect(recorded.findings).toHaveLength(1)
    expect(recorded.findings[0]!.evaluation).toBe('nearest-neighbours')
    expect(Object.keys(recorded.findings[0]!.findings.scores)).toContain('accuracy')
    // What an evaluation finds is no metric of the training.
    expect(metricsOf(straight).some(({ name }) => name.startsWith('accuracy'))).toBe(false)
    expect(recorded.flushes).toBe(1)
  })

  it('keeps the newest two checkpoints, the last of them final, each with what it belongs to', () => {
    const { checkpoints } = straight.recorded
    expect(checkpoints.map(({ checkpoint, final }) => [checkpoint.step, final])).toEqual([
      [12, false],
      [15, true],
    ])
    expect(checkpoints[1]!.checkpoint.meta).toMatchObject({
      definition: trainingFingerprint(definition),
      engine: tf.getBackend(),
      method: 'npid',
      net: 'small',
      dataset: 'shapes',
      seed: '11',
    })
  })

  it('exports unit embeddings of both splits with ids and labels', () => {
    const { embeddings } = straight.recorded
    expect([...embeddings.keys()]).toEqual(['train', 'test'])
    const { meta, rows } = embeddings.get('train')!
    expect(meta).toMatchObject({
      rows: 60,
      dimension: 8,
      dtype: 'f32',
      split: 'train',
      tap: 'embed',
      dataset: 'shapes',
    })
    expect([...meta.ids]).toEqual(Array.from({ length: 60 }, (_, i) => i))
    expect([...meta.labels!]).toEqual(Array.from({ length: 60 }, (_, i) => i % 4))
    expect(embeddings.get('test')!.meta.rows).toBe(20)
    for (let row = 0; row < 60; row++) expect(Math.hypot(...rows.subarray(row * 8, row * 8 + 8))).toBeCloseTo(1, 5)
  })

  it('leaves no tensor behind', async () => {
    const before = tf.memory().numTensors
    await perform(definition, createMemoryContext(memoryBytes()))
    expect(tf.memory().numTensors).toBe(before)
  })

  it.each([1, 4, 5, 7, 14])('stopped at step %i and taken up again ends with the very same numbers', async (at) => {
    const first = stopping((context) => lastProgress(context).step >= at)
    expect(await perform(definition, first)).toBe('stopped')
    expect(first.recorded.findings).toEqual([])
    const { checkpoints } = first.recorded
    expect(checkpoints.at(-1)).toMatchObject({ final: false, checkpoint: { step: at } })
    const second = createMemoryContext(memoryBytes(), { checkpoints })
    expect(await perform(definition, second)).toBe('succeeded')
    expect(second.recorded.log.map(({ text }) => text)).toContain(
      `goes on from the checkpoint at step ${at} of ${steps}`,
    )
    // Weights, bank, Z, running statistics and momentum, bit for bit.
    expect(second.recorded.checkpoints.at(-1)).toEqual(straight.recorded.checkpoints.at(-1))
    expect(metricsOf(first, second)).toEqual(metricsOf(straight))
    expect(second.recorded.embeddings).toEqual(straight.recorded.embeddings)
    expect(second.recorded.findings).toEqual(straight.recorded.findings)
  })

  it('exports embeddings in half precision where it is asked to', async () => {
    const { recorded } = straight
    const context = createMemoryContext(memoryBytes(), { checkpoints: recorded.checkpoints })
    expect(await perform({ ...definition, embeddings: { dtype: 'f16' } }, context)).toBe('succeeded')
    expect([...context.recorded.embeddings.values()].map(({ meta }) => meta.dtype)).toEqual(['f16', 'f16'])
  })

  it('whose training is finished goes on with what is left', async () => {
    for (const stage of ['evaluating', 'exporting'] as const) {
      const first = stopping((context) => lastProgress(context).stage === stage)
      expect(await perform(definition, first)).toBe('stopped')
      const second = createMemoryContext(memoryBytes(), { checkpoints: first.recorded.checkpoints })
      expect(await perform(definition, second)).toBe('succeeded')
      expect(second.recorded.metrics).toEqual([])
      expect(second.recorded.log.map(({ text }) => text)).toContain(`finds the training finished at step ${steps}`)
      expect(second.recorded.embeddings).toEqual(straight.recorded.embeddings)
      expect(second.recorded.findings).toEqual(straight.recorded.findings)
    }
  })

  it('that is stopped before it begins does nothing', async () => {
    const context = stopping(() => true)
    expect(await perform(definition, context)).toBe('stopped')
    expect(context.recorded.metrics).toEqual([])
    expect(context.recorded.checkpoints).toEqual([])
  })

  it('refuses a checkpoint of another definition', async () => {
    const { checkpoints } = straight.recorded
    const other: Definition = { ...definition, seed: 12 }
    const error = await perform(other, createMemoryContext(memoryBytes(), { checkpoints })).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(Damaged)
    expect((error as Damaged).message).toMatch(/at step 15 belongs to another definition/)
  })

  it('says so when it goes on with another engine', async () => {
    const first = stopping((context) => lastProgress(context).step >= 14)
    await perform(definition, first)
    const [last] = first.recorded.checkpoints.slice(-1)
    last!.checkpoint.meta.engine = 'abacus'
    const second = createMemoryContext(memoryBytes(), { checkpoints: [last!] })
    expect(await perform(definition, second)).toBe('succeeded')
    expect(second.recorded.log).toContainEqual({
      level: 'warn',
      text: `the checkpoint was made on engine 'abacus', this is '${tf.getBackend()}': the last digits may differ`,
    })
  })

  it('that diverges keeps the loss it failed with and flushes what it has told', async () => {
    const { training } = definition
    const optimizer = { ...training.optimizer, learningRate: 1000, weightDecay: 10 }
    const wild: Definition = { ...definition, training: { ...training, optimizer, epochs: 200 } }
    const context = createMemoryContext(memoryBytes())
    await expect(perform(wild, context)).rejects.toBeInstanceOf(Diverged)
    const loss = metricsOf(context)
      .filter(({ name }) => name === 'loss')
      .at(-1)!
    expect(Number.isFinite(loss.value)).toBe(false)
    expect(context.recorded.flushes).toBe(1)
    expect(context.recorded.findings).toEqual([])
  })

  it('has one fingerprint however its keys are ordered, and whatever does not touch the training', () => {
    const turned = JSON.parse(
      JSON.stringify({ ...definition, method: Object.fromEntries(Object.entries(definition.method).reverse()) }),
    )
    expect(trainingFingerprint(turned)).toBe(trainingFingerprint(definition))
    expect(trainingFingerprint({ ...definition, name: 'x', evaluations: [] })).toBe(trainingFingerprint(definition))
    expect(trainingFingerprint({ ...definition, seed: 1 })).not.toBe(trainingFingerprint(definition))
    expect(trainingFingerprint({ ...definition, views: [{ shift: 2 }] })).not.toBe(trainingFingerprint(definition))
    const { training } = definition
    for (const other of [{ accumulate: 2 }, { averaging: 0.9 }, { epochs: 4 }])
      expect(trainingFingerprint({ ...definition, training: { ...training, ...other } })).not.toBe(
        trainingFingerprint(definition),
      )
  })

  it('has the fingerprint that the first version gave it, though there are more parameters now', () => {
    const first = { version: 1, name: 'first', seed: 7 }
    const base = { ...first, net: { name: 'small', widths: [16, 32, 64] }, method: { name: 'npid', dimension: 128 } }
    const optimizer = { name: 'sgd', weightDecay: 5e-4 }
    const training = { epochs: 12, optimizer, schedule: { name: 'cosine', warmUpSteps: 50 } }
    const dataset = { name: 'fashion-mnist-12k' }
    expect(trainingFingerprint(parseDefinition({ ...base, dataset, training }))).toBe(
      '7e98d750888371332614daa8d23fa4d5af7e84e7e2730dea8948c9447cf3efb2',
    )
    const shapes = { dataset: { name: 'shapes' }, training: { schedule: { name: 'step', epochs: [2] } } }
    expect(trainingFingerprint(parseDefinition({ ...base, ...shapes }))).toBe(
      '1439a596d9845218e26e0e3e439dd334484d723f3a0903022ece10db47ba4c21',
    )
  })

  it('keeps the pictures of what was learned under plain names, the same whenever they are drawn', async () => {
    const context = createMemoryContext(memoryBytes())
    const work = await prepare(definition, context)
    const learner = build(work)
    const rolls: number[] = []
    const pictures: typeof learner.pictures = async ({ test }, dice) => {
      rolls.push(dice.below(1e9))
      return [{ name: `first ${test.size}: "a"`, type: 'image/png', bytes: new Uint8Array([1, 2]) }]
    }
    await keepPictures(work, { ...learner, pictures })
    await keepPictures(work, { ...learner, pictures })
    await keepPictures(work, learner)
    learner.dispose()
    const bytes = new Uint8Array([1, 2])
    expect([...context.recorded.artifacts]).toEqual([['pictures/first-20-a-.png', { type: 'image/png', bytes }]])
    expect(rolls[1]).toBe(rolls[0])
  })
})
