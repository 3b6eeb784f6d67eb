import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../src/engine/choose.ts'
import { Damaged } from '../../src/errors.ts'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { trainingFingerprint } from '../../src/experiments/fingerprint.ts'
import type { Origins } from '../../src/experiments/from.ts'
import { createMemoryContext, type MemoryContextOptions, memoryBytes } from '../../src/experiments/memory-context.ts'
import { perform } from '../../src/experiments/perform.ts'
import type { Checkpoint } from '../../src/models/checkpoint.ts'

const sha256 = 'a'.repeat(64)

function define(changes: Record<string, unknown> = {}) {
  return parseDefinition({
    version: 1,
    name: 'starts',
    dataset: { name: 'shapes', images: 24, testImages: 8, classes: 4, height: 8, width: 8, clutter: 0 },
    net: { name: 'small', widths: [4] },
    method: { name: 'npid', dimension: 8 },
    // So slow that what was taken is still there at the end.
    training: { epochs: 1, batchSize: 8, optimizer: { name: 'sgd', learningRate: 1e-9 } },
    ...changes,
  })
}

/** A checkpoint as something to start from. */
function originsOf({ tensors }: Checkpoint, method = 'npid'): Origins {
  const ours = Object.entries(tensors).filter(([name]) => !name.startsWith('optimizer/'))
  return {
    find: async () => ({
      title: 'the first run',
      sha256,
      made: { method, net: define().net },
      tensors: Object.fromEntries(ours.map(([name, { shape }]) => [name, shape])),
    }),
    async *read(_from, wants) {
      for (const [name, tensor] of ours) if (wants(name)) yield [name, tensor]
    },
  }
}

async function run(definition = define(), options: MemoryContextOptions = {}) {
  const context = createMemoryContext(memoryBytes(), options)
  const outcome = await perform(definition, context)
  const { checkpoint } = context.recorded.checkpoints.at(-1)!
  const numbers = (name: string) => [...(checkpoint.tensors[name]!.data as Float32Array)]
  return { outcome, checkpoint, numbers, log: context.recorded.log.map(({ text }) => text), context }
}

const from = (more: Record<string, unknown> = {}) => ({ weights: 'first', sha256, ...more })
let first: Awaited<ReturnType<typeof run>>

beforeAll(async () => {
  await chooseEngine('cpu', { threads: 1 })
  first = await run(define({ seed: 1, training: { epochs: 2, batchSize: 8 } }))
})

const near = (numbers: number[]) => numbers.map((number) => expect.closeTo(number, 5))

describe('a run that starts from weights', () => {
  it('has them before its first step, and says what was taken, drawn and left out', async () => {
    const second = await run(define({ seed: 2, from: from() }), { origins: originsOf(first.checkpoint) })
    for (const name of ['weights/conv1/filter', 'weights/norm1/scale', 'weights/head/weights'])
      expect(second.numbers(name)).toEqual(near(first.numbers(name)))
    expect(second.log).toContain('starts from the first run: 7 tensors taken')
    expect(second.log).toContain('drawn or begun anew: memory/bank, memory/logZ')
    expect(second.log).toContain('left out of the source: memory/bank, memory/logZ')
  })

  it.each([
    ['the net alone where it is asked for', { parts: 'net' }, 'npid'],
    ['the net alone where another method trained it', {}, 'other'],
  ])('takes %s', async (_, parts, method) => {
    const second = await run(define({ seed: 2, from: from(parts) }), { origins: originsOf(first.checkpoint, method) })
    const drawn = await run(define({ seed: 2 }))
    expect(second.numbers('weights/conv1/filter')).toEqual(near(first.numbers('weights/conv1/filter')))
    expect(second.numbers('weights/head/weights')).toEqual(near(drawn.numbers('weights/head/weights')))
  })

  it('takes what is remembered too where all is asked for, as far as it fits', async () => {
    const wider = { name: 'npid', dimension: 6 }
    const origins = originsOf(first.checkpoint)
    const all = await run(define({ from: from({ parts: 'all' }) }), { origins })
    expect(all.log.some((line) => line.startsWith('drawn'))).toBe(false)
    const other = await run(define({ from: from({ parts: 'all' }), method: wider }), { origins })
    expect(other.log).toContain('drawn or begun anew: weights/head/weights, weights/head/bias, memory/bank')
  })

  it('goes on from its own checkpoint when it is taken up again', async () => {
    const definition = define({ seed: 2, from: from() })
    const begun = await run(definition, { origins: originsOf(first.checkpoint) })
    const again = await run(definition, { checkpoints: begun.context.recorded.checkpoints })
    expect(again.outcome).toBe('succeeded')
    expect(again.log).toContain('finds the training finished at step 3')
  })

  it('fails where the source lacks what its header has', async () => {
    const origins = originsOf(first.checkpoint)
    const cut: Origins = {
      ...origins,
      read: (_from, wants) => origins.read(_from, (name) => !/filter/.test(name) && wants(name)),
    }
    await expect(run(define({ from: from() }), { origins: cut })).rejects.toThrow(Damaged)
  })

  it('belongs to the bytes of its source, and to nothing else where it has none', () => {
    const print = (changes: Record<string, unknown>) => trainingFingerprint(define(changes))
    const pinned = print({ from: from() })
    expect(pinned).not.toBe(print({}))
    expect(pinned).not.toBe(print({ from: from({ sha256: 'b'.repeat(64) }) }))
    expect(pinned).toBe(print({ from: { checkpoint: '018f0000-0000-7000-8000-000000000000', sha256 } }))
  })

  it('skips the classifier phase of decoding pathways where a supervised checkpoint has the net and its head', async () => {
    const supervised = await run(define({ method: { name: 'supervised' } }))
    const decoding = (more: Record<string, unknown>) =>
      define({
        seed: 5,
        method: { name: 'what-where', classifier: { epochs: 1 }, layerwise: { epochs: 1 }, stacked: { epochs: 0 } },
        training: { epochs: 3, batchSize: 8, optimizer: { name: 'sgd', learningRate: 1e-9 } },
        ...more,
      })
    const plain = await run(decoding({}))
    expect(plain.checkpoint.step).toBe(9)
    const second = await run(decoding({ from: from({ method: 'supervised' }) }), {
      origins: originsOf(supervised.checkpoint, 'supervised'),
    })
    expect(second.checkpoint.step).toBe(6)
    for (const name of ['weights/conv1/filter', 'weights/head/weights', 'weights/head/bias'])
      expect(second.numbers(name)).toEqual(near(supervised.numbers(name)))
  })
})
