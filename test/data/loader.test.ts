import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { drawViews } from '../../src/data/augment.ts'
import type { Dataset } from '../../src/data/dataset.ts'
import { rollDice } from '../../src/data/dice.ts'
import { drawElsewhere, endDrawing } from '../../src/data/drawing.ts'
import { openLoader, type RawBatch } from '../../src/data/loader.ts'
import { type Order, shuffled } from '../../src/data/order.ts'
import { shapes } from '../../src/data/shapes.ts'
import { memoryBytes } from '../../src/experiments/memory-context.ts'

/** 0, 1, 2, ... in every epoch. */
function inTurn(size: number): Order {
  const order = Int32Array.from({ length: size }, (_, i) => i)
  return () => order
}

const wanted = {
  images: 50,
  testImages: 4,
  classes: 8,
  height: 8,
  width: 8,
  channels: 1 as const,
  clutter: 0,
  noise: 0,
  seed: 0,
}
const open = async () => (await shapes.open(wanted, memoryBytes())).train
const view = { shift: 2, flip: 0.5, gamma: 1, light: 0.5, gain: 0.4 }

/** Runs a command to its end. */
async function run([command, ...given]: string[]): Promise<{ exitCode: number | null }> {
  const child = spawn(command!, given, { stdio: 'ignore', timeout: 30_000 })
  const [exitCode] = await once(child, 'exit')
  return { exitCode }
}

async function take(count: number, options: Omit<Parameters<typeof openLoader>[0], 'dataset'>, dataset?: Dataset) {
  const batches: RawBatch[] = []
  for await (const batch of openLoader({ dataset: dataset ?? (await open()), ...options })) {
    batches.push(structuredClone(batch))
    if (batches.length === count) break
  }
  return batches
}

describe('the loader', () => {
  it('visits every image once an epoch in full batches, in an order of its own each epoch', async () => {
    const batches = await take(8, { batchSize: 12, seed: 3 })
    expect(batches.map(({ step, epoch }) => [step, epoch])).toEqual(
      [0, 1, 2, 3, 4, 5, 6, 7].map((step) => [step, Math.floor(step / 4)]),
    )
    const epochs = [batches.slice(0, 4), batches.slice(4)].map((epoch) => epoch.flatMap((batch) => [...batch.indices]))
    for (const epoch of epochs) expect(new Set(epoch).size).toBe(48)
    expect(epochs[0]).not.toEqual(epochs[1])
    expect(batches[0]!.shape).toEqual([12, 8, 8, 1])
    expect([...batches[0]!.labels!]).toEqual([...batches[0]!.indices].map((index) => index % 8))
  })

  it('goes on at any step with the very batches of a loader that has run there', async () => {
    const options = { views: [view, view], batchSize: 12, seed: 3 }
    const straight = await take(11, options)
    for (const firstStep of [1, 4, 7]) {
      const resumed = await take(11 - firstStep, { ...options, firstStep })
      expect(resumed).toEqual(straight.slice(firstStep))
    }
  })

  it('draws another view at every step, for every view and by another seed', async () => {
    const order = inTurn(12)
    const options = { views: [view, view], batchSize: 12, seed: 3, order }
    const [first, second] = await take(2, options, { ...(await open()), size: 12 })
    const [other] = await take(1, { ...options, seed: 4 }, { ...(await open()), size: 12 })
    expect(first!.indices).toEqual(second!.indices)
    const drawn = [...first!.views, ...second!.views, ...other!.views].map(String)
    expect(new Set(drawn).size).toBe(6)
  })

  it('gives the images as they are where no view is asked for', async () => {
    const dataset = await open()
    const [batch] = await take(1, { batchSize: 5, seed: 3, order: inTurn(50) }, dataset)
    const { data } = await dataset.read([0, 1, 2, 3, 4])
    expect(batch!.views).toHaveLength(1)
    expect(batch!.views[0]).toEqual(Float32Array.from(data, (byte) => byte / 255))
  })

  it('prepares three batches ahead within an epoch, and asks for an order only when its epoch begins', async () => {
    const dataset = await open()
    const asked: string[] = []
    const watched: Dataset = {
      ...dataset,
      read: (indices) => {
        asked.push(`read ${indices[0]}`)
        return dataset.read(indices)
      },
    }
    const order = (epoch: number) => {
      asked.push(`order ${epoch}`)
      return inTurn(50)(epoch)
    }
    const loader = openLoader({ dataset: watched, batchSize: 10, seed: 0, order })
    await loader.next()
    const first = ['order 0', 'read 0', 'read 10', 'read 20', 'read 30']
    expect(asked).toEqual(first)
    for (let step = 1; step < 5; step++) await loader.next()
    expect(asked).toEqual([...first, 'read 40'])
    await loader.next()
    expect(asked.slice(6)).toEqual(['order 1', ...first.slice(1)])
  })

  it('leaves the views of a batch as they are until the second one after it is asked for', async () => {
    const loader = openLoader({ dataset: await open(), views: [view], batchSize: 12, seed: 3 })
    const taken: { batch: RawBatch; before: RawBatch }[] = []
    for (let step = 0; step < 12; step++) {
      const { value } = await loader.next()
      taken.push({ batch: value, before: structuredClone(value) })
      for (const { batch, before } of taken.slice(-2)) expect(batch.views).toEqual(before.views)
    }
    await loader.return(undefined as never)
  })

  it('passes on what goes wrong with a read, at the batch it belongs to', async () => {
    const dataset = await open()
    let reads = 0
    const failing: Dataset = {
      ...dataset,
      read: async (indices) => {
        if (++reads === 2) throw new Error('the disk is gone')
        return dataset.read(indices)
      },
    }
    const loader = openLoader({ dataset: failing, batchSize: 10, seed: 0 })
    await expect(loader.next()).resolves.toMatchObject({ done: false })
    await expect(loader.next()).rejects.toThrow('the disk is gone')
  })

  it('draws in another thread what drawing here gives', async () => {
    const dataset = await open()
    const [, batch] = await take(2, { views: [view], batchSize: 12, seed: 3 }, dataset)
    const { data } = await dataset.read(batch!.indices)
    const here = new Float32Array(12 * 64)
    const dice = rollDice(3).for('augment', 1)
    const draw = drawViews([8, 8, 1], view)
    batch!.indices.forEach((index, i) => {
      draw(data, i * 64, here, i * 64, dice.for(index))
    })
    expect(batch!.views[0]).toEqual(here)
  })

  it('draws views with a crop from larger images where there are such, the others from those that nets see', async () => {
    const dataset = await open()
    const larger = (await shapes.open({ ...wanted, height: 12, width: 12 }, memoryBytes())).train
    const reads: string[] = []
    const both: Dataset = {
      ...dataset,
      read: (indices) => {
        reads.push('plain')
        return dataset.read(indices)
      },
      source: {
        shape: [12, 12, 1],
        read: (indices) => {
          reads.push('larger')
          return larger.read(indices)
        },
      },
    }
    const crop = { smallest: 0.3, largest: 0.9, ratio: 4 / 3 }
    const [batch] = await take(1, { views: [view, { crop }], batchSize: 12, seed: 3 }, both)
    const image = { shape: [8, 8, 1], source: [12, 12, 1] } as const
    const [plainHere, croppedHere] = [new Float32Array(768), new Float32Array(768)]
    const [plain, large] = await Promise.all([dataset.read(batch!.indices), larger.read(batch!.indices)])
    const dice = rollDice(3).for('augment', 0)
    batch!.indices.forEach((index, i) => {
      const imageDice = dice.for(index)
      drawViews(image.shape, view)(plain.data, i * 64, plainHere, i * 64, imageDice, 0)
      drawViews(image.shape, { crop }, image.source)(large.data, i * 144, croppedHere, i * 64, imageDice, 1)
    })
    expect(batch!.views).toEqual([plainHere, croppedHere])
    expect(batch!.labels).toEqual(plain.labels)
    reads.length = 0
    const [cropped] = await take(1, { views: [{ crop }], batchSize: 12, seed: 3 }, both)
    expect(new Set(reads)).toEqual(new Set(['larger']))
    expect(cropped!.labels).toEqual(plain.labels)
  })

  it('says so where the drawing thread ends, and draws again with another', async () => {
    const drawn = (images: number) => {
      const order = { shape: [8, 8, 1], views: [view], seed: 1, step: 0, indices: new Int32Array(images) } as const
      return drawElsewhere({ ...order, bytes: new Uint8Array(64 * images), into: [new Float32Array(64 * images)] })
    }
    await drawn(1)
    // More than is drawn before the end comes.
    const lost = drawn(200_000)
    await Promise.all([endDrawing(), expect(lost).rejects.toThrow(/the thread that draws batches ended with code/)])
    expect((await drawn(1))[0]).toHaveLength(64)
  })

  it('does not keep a process alive', async () => {
    const drawing = new URL('../../src/data/drawing.ts', import.meta.url).href
    const script = `import { prepareDrawing } from ${JSON.stringify(drawing)}; prepareDrawing()`
    const { exitCode } = await run([process.execPath, '--import', 'tsx', '--input-type=module', '-e', script])
    expect(exitCode).toBe(0)
  })

  it('refuses a batch larger than the dataset', async () => {
    await expect(take(1, { batchSize: 51, seed: 0 })).rejects.toThrow(/51 does not fit into 50/)
  })
})

describe('an order', () => {
  it('is a permutation that depends on seed and epoch alone', () => {
    const sorted = (order: ArrayLike<number>) => Array.from(order).sort((a, b) => a - b)
    expect(sorted(shuffled(20, 1)(0))).toEqual(Array.from(inTurn(20)(5)))
    expect(shuffled(20, 1)(4)).toEqual(shuffled(20, 1)(4))
    expect(shuffled(20, 1)(4)).not.toEqual(shuffled(20, 1)(5))
    expect(shuffled(20, 1)(4)).not.toEqual(shuffled(20, 2)(4))
  })
})
