import { isDeepStrictEqual } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Corpus } from '../../src/data/dataset.ts'
import { toUnit } from '../../src/data/pixels.ts'
import type { Checkpoint } from '../../src/models/checkpoint.ts'
import { encodeAll } from '../../src/models/encoding.ts'
import type { Method, Stage } from '../../src/models/method.ts'
import { epochsOf, layOut } from '../../src/models/training/stages.ts'
import { train } from '../../src/models/training/train.ts'
import { type TrainingDefinition, trainingSchema } from '../../src/models/training/training.ts'
import { type Tensor4D, tf } from '../../src/tf.ts'
import { buildTiny, defaultsOf, tinyCorpus } from '../models/tiny.ts'

/** What every method has to do, on the engine that `start` makes compute. */
export function describeMethods(tested: readonly Method[], start: () => Promise<unknown>): void {
  let corpus: Corpus

  beforeAll(async () => {
    await start()
    corpus = await tinyCorpus()
  })

  const training = defaultsOf(trainingSchema, {
    epochs: 6,
    batchSize: 16,
    checkpointEverySteps: 7,
    optimizer: { name: 'sgd', learningRate: 0.02 },
  }) as unknown as TrainingDefinition

  /** Parameters that a method needs to fit into this small world, beside its defaults. */
  const given: Record<string, Record<string, unknown>> = {
    'deep-autoencoder': { widths: [48, 24, 12] },
    // A new head at each epoch has three steps here, in which nothing is learned.
    deepcluster: { k: 6, reassignEvery: 3 },
    'kmeans-patches': { centroids: 10, patches: 500, iterations: 4 },
    'random-filters': { filters: 8 },
  }

  const buildOne = (method: unknown) => buildTiny(method, given[(method as Method).name] ?? {}, corpus)

  /** The stages of a method here; none of a fitted one. */
  function stagesOf(method: unknown): readonly Stage[] {
    const unit = method as Method
    if (unit.fitted) return []
    const { epochs } = training
    const parameters = defaultsOf(unit.parameters, given[unit.name] ?? {})
    return unit.stages?.(parameters, { epochs }) ?? [{ name: 'all', epochs }]
  }

  /** Trains and embeds the training images; with `stopAfter` a step it is stopped there. */
  async function run(method: unknown, { start, stopAfter }: { start?: Checkpoint; stopAfter?: number } = {}) {
    const before = tf.memory().numTensors
    const { learner, method: unit, parameters } = buildOne(method)
    const controller = new AbortController()
    if (stopAfter === 0) controller.abort()
    const losses: number[] = []
    const tensors: number[] = []
    const saved: { checkpoint: Checkpoint; final: boolean }[] = []
    const outcome = await train({
      learner,
      views: unit.views(parameters),
      dataset: corpus.train,
      training,
      stages: stagesOf(method),
      seed: 5,
      start,
      window: {
        report: (_, { loss }) => {
          if (loss !== undefined) losses.push(loss)
        },
        progress: () => {},
        save: (checkpoint, { final }) => void saved.push({ checkpoint, final }),
        stop: controller.signal,
        onStep(step) {
          tensors.push(tf.memory().numTensors)
          if (step === stopAfter) controller.abort()
        },
      },
    })
    const embedded = (await encodeAll(learner, corpus.train, [learner.embedding]))[learner.embedding]!
    learner.dispose()
    const left = tf.memory().numTensors - before
    return { outcome, losses, tensors, left, last: saved.at(-1)?.checkpoint, final: saved.at(-1)?.final, embedded }
  }

  /** An uninterrupted training of each method, done once. */
  const straightRuns = new Map<unknown, ReturnType<typeof run>>()

  function runStraight(method: unknown): ReturnType<typeof run> {
    if (!straightRuns.has(method)) straightRuns.set(method, run(method))
    return straightRuns.get(method)!
  }

  /** A training of each method that is stopped after a step, done once. */
  const stoppedRuns = new Map<unknown, Map<number, ReturnType<typeof run>>>()

  function runUntil(method: unknown, stopAfter: number): ReturnType<typeof run> {
    const known = stoppedRuns.get(method) ?? new Map<number, ReturnType<typeof run>>()
    stoppedRuns.set(method, known)
    if (!known.has(stopAfter)) known.set(stopAfter, run(method, { stopAfter }))
    return known.get(stopAfter)!
  }

  async function images(count: number): Promise<Tensor4D> {
    const pixels = await corpus.train.read(Int32Array.from({ length: count }, (_, i) => i))
    return tf.tensor4d(toUnit(pixels.data), [count, ...pixels.shape])
  }

  describe.each(tested.map((method) => [method.name, method] as const))('the method %s', (_, method) => {
    it('accepts its own defaults', () => {
      const { learner, method: unit, parameters } = buildOne(method)
      expect(unit.check?.(parameters, { size: corpus.train.size, classes: 4, batchSize: 16 }) ?? []).toEqual([])
      expect(unit.views(parameters).length).toBeGreaterThan(0)
      expect(Object.keys(learner.taps)).toContain(learner.embedding)
      learner.dispose()
    })

    it('encodes n images as n rows of the promised shape, at any tap, and leaves itself as it is', async () => {
      const { learner } = buildOne(method)
      const taps = Object.keys(learner.taps)
      const memory = () =>
        Promise.all(Object.values(learner.memory).map((part) => ('length' in part ? part.slice() : part.data())))
      const before = await memory()
      for (const count of [1, 7]) {
        const batch = await images(count)
        const tensors = tf.memory().numTensors
        const rows = learner.encode(batch, taps)
        expect(Object.keys(rows).sort()).toEqual([...taps].sort())
        for (const tap of taps) expect(rows[tap]!.shape).toEqual([count, ...learner.taps[tap]!])
        tf.dispose(rows)
        expect(tf.memory().numTensors).toBe(tensors)
        batch.dispose()
      }
      expect(await memory()).toEqual(before)
      learner.dispose()
    })

    it('encodes an image alike in any company', async () => {
      const { learner } = buildOne(method)
      const rows = async (count: number) => {
        const batch = await images(count)
        const embedded = tf.tidy(() => learner.encode(batch, [learner.embedding])[learner.embedding]!)
        const values = await embedded.data()
        tf.dispose([batch, embedded])
        return values
      }
      const [alone, among] = [await rows(1), await rows(9)]
      for (let i = 0; i < alone.length; i++) expect(among[i]).toBeCloseTo(alone[i]!, 5)
      learner.dispose()
    })

    it('leaks no tensor over a step, and none when it is disposed of', async () => {
      const { tensors, left } = await runStraight(method)
      for (const { first, steps } of layOut(stagesOf(method), perEpoch))
        expect(new Set(tensors.slice(first + 1, first + steps)).size).toBe(1)
      expect(left).toBe(0)
    })

    it('gives the same numbers from the same seed', async () => {
      const [once, again] = [await runStraight(method), await run(method)]
      expect(again.losses).toEqual(once.losses)
      expect(again.last).toEqual(once.last)
      expect(again.embedded).toEqual(once.embedded)
      expect(once.final).toBe(true)
    })
  })

  const perEpoch = 3

  describe.each(tested.filter(({ fitted }) => !fitted).map((method) => [method.name, method] as const))(
    'the method %s, which learns by gradient descent,',
    (_, method) => {
      it('lowers its objective, in each stage', async () => {
        const { losses } = await runStraight(method)
        const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length
        for (const { first, steps } of layOut(stagesOf(method), perEpoch)) {
          const own = losses.slice(first, first + steps)
          const part = Math.min(3, Math.floor(steps / 2))
          expect(mean(own.slice(-part))).toBeLessThan(mean(own.slice(0, part)))
        }
      })

      it('has stages that add up to the epochs it is given, whatever they are', () => {
        const parameters = defaultsOf(method.parameters, given[method.name] ?? {})
        for (const epochs of [6, 8])
          expect(epochsOf(method.stages?.(parameters, { epochs }) ?? [{ name: '', epochs }])).toBe(epochs)
      })

      it('is saved, restored and continued with the next loss exactly, in each stage and between them', async () => {
        const straight = await runStraight(method)
        const parts = layOut(stagesOf(method), perEpoch)
        for (const at of new Set([7, ...parts.slice(1).flatMap(({ first }) => [first, first + 1])])) {
          const stopped = await runUntil(method, at)
          expect(stopped.outcome).toEqual({ step: at, stopped: true })
          const resumed = await run(method, { start: stopped.last! })
          expect([...stopped.losses, ...resumed.losses]).toEqual(straight.losses)
          expect(resumed.last).toEqual(straight.last)
          expect(resumed.embedded).toEqual(straight.embedded)
        }
      })

      it('leaves the weights that do not learn in a stage as they are, bit for bit', async () => {
        const parts = layOut(stagesOf(method), perEpoch)
        for (const { stage, first, steps } of parts.filter(({ stage }) => stage.learns)) {
          const until = (step: number) =>
            step === parts.at(-1)!.first + parts.at(-1)!.steps ? runStraight(method) : runUntil(method, step)
          const [before, after] = [await until(first), await until(first + steps)]
          const names = Object.keys(before.last!.tensors).filter((name) => name.startsWith('weights/'))
          const learning = names.filter((name) => stage.learns!.test(name.slice('weights/'.length)))
          for (const name of names) {
            const same = expect(after.last!.tensors[name])
            if (learning.includes(name)) continue
            same.toEqual(before.last!.tensors[name])
          }
          const changed = learning.filter(
            (name) => !isDeepStrictEqual(after.last!.tensors[name], before.last!.tensors[name]),
          )
          expect(changed.length).toBeGreaterThan(0)
        }
      })
    },
  )

  const fitted = tested.filter((method) => method.fitted)

  describe.runIf(fitted.length > 0).each(fitted.map((method) => [method.name, method] as const))(
    'the method %s, which is fitted,',
    (_, method) => {
      it('takes no step and is found again as it was', async () => {
        const straight = await runStraight(method)
        expect(straight.losses).toEqual([])
        expect([straight.last!.step, straight.final]).toEqual([0, true])
        const stopped = await run(method, { stopAfter: 0 })
        expect([stopped.outcome, stopped.last]).toEqual([{ step: 0, stopped: true }, undefined])
        const resumed = await run(method, { start: straight.last! })
        expect(resumed.outcome).toEqual({ step: 0, stopped: false })
        expect(resumed.last).toBeUndefined()
        expect(resumed.embedded).toEqual(straight.embedded)
      })
    },
  )
}
