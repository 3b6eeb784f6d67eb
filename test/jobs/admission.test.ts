import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { needsOf, offerOf } from '../../src/experiments/placement.ts'
import { Admission } from '../../src/jobs/admission.ts'
import { tiny } from '../fixtures/tiny.ts'

const gib = 2 ** 30

/** A run that asks for so much of a GPU. */
const run = (id: string, gpuMemory: number, priority = 0) => {
  const definition = parseDefinition({ ...tiny, resources: { gpuMemory } })
  return { id, priority, definition, needs: needsOf(definition, gib) }
}

describe('a worker with four slots on a GPU of 16 GiB', () => {
  let log: string[]
  let admission: Admission
  const live = [run('a', 4 * gib), run('b', 4 * gib)].map(({ needs }) => needs)
  const large = run('large', 12 * gib)
  const small = run('small', 4 * gib)
  const ids = (given: { id: string }[]) => given.map(({ id }) => id)

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date'] })
    log = []
    const say = (text: string) => void log.push(text)
    const gpu = { gpu: true, gpuMemory: 16 * gib, gpuSlots: 4 }
    const offer = offerOf({ memoryBytes: 64 * gib, cores: 4, engine: 'webgpu', ...gpu })
    admission = new Admission({ offer, log: { info: say, warn: say, error: say } })
  })
  afterEach(() => {
    vi.useRealTimers()
  })
  const later = (minutes: number) => vi.setSystemTime(Date.now() + minutes * 60_000)

  it('takes what finds room beside the others, and says once why it does not take the rest', () => {
    expect(admission.admits(small, live)).toBe(true)
    expect(admission.admits(large, live)).toBe(false)
    expect(admission.admits(large, live.slice(1).concat(run('c', 5 * gib).needs))).toBe(false)
    expect(log).toEqual([
      'run large is left to another worker: its GPU has 8.0 GiB of 16.0 GiB free, and the run needs 12.0 GiB',
    ])
    expect(ids(admission.couldTake([large, small], live, 2))).toEqual(['small'])
    expect(admission.couldTake([small], live, 0)).toEqual([])
  })

  it('keeps room for a large run that smaller ones have overtaken for ten minutes, until it is taken', () => {
    const urgent = run('urgent', 4 * gib, 1)
    const waiting = [urgent, large, small]
    expect(ids(admission.couldTake(waiting, live, 4))).toEqual(['urgent', 'small'])
    later(11)
    expect(ids(admission.couldTake(waiting, live, 4))).toEqual(['urgent'])
    expect(admission.admits(small, live)).toBe(false)
    expect(log).toEqual([expect.stringMatching(/^run small .*: room is kept for run large, which has waited/)])
    expect(admission.admits(urgent, live)).toBe(true)
    expect(admission.admits(large, live.slice(1))).toBe(true)
    expect(admission.admits(small, live)).toBe(true)
  })

  it('keeps none for one that has gone, or that other programs leave no room', () => {
    admission.couldTake([large, small], live, 4)
    later(11)
    expect(ids(admission.couldTake([small], live, 4))).toEqual(['small'])
    // The card is full of what is not ours: nothing would be won by waiting.
    admission.measured({ usedBytes: 14 * gib, freeBytes: 2 * gib })
    const any = run('any', 2 * gib)
    admission.couldTake([large, any], [], 4)
    later(11)
    expect(ids(admission.couldTake([large, any], [], 4))).toEqual(['any'])
  })

  it('takes none while its GPU does not serve, which all compute on, longer each time', () => {
    const plain = { ...small, id: 'plain', needs: needsOf(parseDefinition(tiny), gib) }
    expect(admission.gpuFailed('the driver is gone')).toBe(60)
    expect(admission.gpu([])).toMatchObject({ gpuFault: 'the driver is gone', gpuFreeBytes: null })
    expect(ids(admission.couldTake([large, plain], [], 4))).toEqual([])
    later(1)
    expect(ids(admission.couldTake([large, plain], [], 4))).toEqual(['large', 'plain'])
    expect(admission.gpuFailed('the driver is gone')).toBe(120)
    later(2)
    expect(admission.gpu([])).toMatchObject({ gpuFault: 'the driver is gone', gpuFreeBytes: 16 * gib })
    admission.gpuServed()
    expect(admission.gpu([])).toMatchObject({ gpuFault: null })
    expect(admission.gpuFailed('the driver is gone')).toBe(60)
    for (let i = 0; i < 20; i++) admission.gpuFailed('the driver is gone')
    expect(admission.gpuFailed('the driver is gone')).toBe(3600)
  })

  it('takes a run that found no room beside others only alone, and then nothing beside it', () => {
    const crowded = run('crowded', 2 * gib)
    admission.foundNoRoom(crowded, 0)
    expect(admission.admits(crowded, live)).toBe(false)
    expect(log).toEqual([expect.stringMatching(/^run crowded is left .*: it found no room on the GPU.*alone here$/)])
    expect(ids(admission.couldTake([crowded, small], live, 2))).toEqual(['small'])
    expect(admission.admits(crowded, [])).toBe(true)
    const alone = [admission.load(crowded)]
    expect(admission.admits(small, alone)).toBe(false)
    expect(log).toContainEqual(expect.stringMatching(/^run small .*: a run is at work here that found no room/))
    expect(ids(admission.couldTake([small], alone, 3))).toEqual([])
    expect(admission.gpu(alone)).toMatchObject({ gpuFreeBytes: 0 })
    admission.ended('crowded')
    expect(admission.admits(crowded, live)).toBe(true)
  })

  it('keeps room for one that found none once it has been overtaken for ten minutes, also where no slot was free', () => {
    const crowded = run('crowded', 2 * gib)
    const urgent = run('urgent', 2 * gib, 1)
    admission.foundNoRoom(crowded, 0)
    later(9)
    expect(admission.admits(small, live)).toBe(true)
    later(2)
    // All slots were busy: nobody has looked through those that wait.
    expect(admission.admits(small, live)).toBe(false)
    expect(log.at(-1)).toMatch(/^run small .*: room is kept for run crowded, which has waited/)
    expect(ids(admission.couldTake([urgent, crowded, small], live, 2))).toEqual(['urgent'])
    expect(ids(admission.couldTake([crowded, small], [], 1))).toEqual(['crowded'])
    expect(admission.admits(crowded, [])).toBe(true)
  })

  it('calls one that found no room for other programs later, and none with it that would take its place', () => {
    const plain = { ...small, id: 'plain', needs: needsOf(parseDefinition(tiny), gib) }
    admission.foundNoRoom(plain, 60)
    admission.measured({ usedBytes: 15 * gib, freeBytes: gib })
    const any = { ...plain, id: 'any' }
    expect(ids(admission.couldTake([plain, any], [], 1))).toEqual(['any'])
    later(1)
    expect(ids(admission.couldTake([plain, any], [], 4))).toEqual(['plain'])
    expect(ids(admission.couldTake([any, plain], [], 4))).toEqual(['any'])
    expect(admission.admits(plain, [])).toBe(true)
    expect(admission.admits(plain, live)).toBe(false)
  })
})
