import { describe, expect, it } from 'vitest'
import { parseDefinition } from '../../src/experiments/definition.ts'
import {
  checkResources,
  gpuLeft,
  needsOf,
  offerOf,
  whyNoRoom,
  whyUnfit,
  whyUnreadable,
} from '../../src/experiments/placement.ts'
import { whyWaiting } from '../../src/experiments/waiting.ts'
import { tiny } from '../fixtures/tiny.ts'

const gib = 2 ** 30
const offer = offerOf({ memoryBytes: 4 * gib, cores: 2, gpu: false, engine: 'onnx' })
const needs = (resources: object = {}, memoryBytes = gib) =>
  needsOf(parseDefinition({ ...tiny, resources }), memoryBytes)

describe('a run and a worker', () => {
  it('fit where the worker has what the run needs', () => {
    expect(whyUnfit(needs(), offer)).toEqual([])
    expect(whyUnfit(needs({ engine: 'onnx', cores: 2, memoryBytes: 4 * gib }), offer)).toEqual([])
  })

  it.each([
    [{ gpu: true }, 'it has no GPU'],
    [{ engine: 'wasm' }, 'it computes on onnx, not on wasm'],
    [{ cores: 3 }, 'it has 2 cores of 3'],
    [{ memoryBytes: 5 * gib }, 'it has 4.0 GiB of memory, and the run needs 5.0 GiB'],
  ])('do not fit with %o: %s', (resources, reason) => {
    expect(whyUnfit(needs(resources), offer)).toEqual([reason])
  })

  it('do not fit where the software of the worker is older than the definition', () => {
    const older = { ...offer, units: offer.units.filter((unit) => unit !== 'method npid') }
    expect(whyUnfit(needs(), older)).toEqual(['its software does not know: method npid'])
    expect(whyUnfit({ ...needs(), version: 2 }, offer)).toEqual([
      'its software reads definitions up to version 1, and this one is 2',
    ])
  })

  it('fit where a version before said nothing', () => {
    expect(whyUnfit({}, offer)).toEqual([])
    expect(whyUnfit(needs({ gpu: false }), {})).toEqual([])
  })

  it('take the memory that is planned where the definition names none', () => {
    expect(needs({}, 3 * gib).memoryBytes).toBe(3 * gib)
    expect(needs({ memoryBytes: gib }, 3 * gib).memoryBytes).toBe(gib)
  })
})

it('leaves what another version accepted and this one cannot read to others, and fails on its own', () => {
  const newer = { ...parseDefinition(tiny), surprise: true }
  expect(whyUnreadable(newer, { software: '2.0.0' }, '1.0.0')).toMatch(
    /is 1\.0\.0, and what 2\.0\.0 accepted .*surprise/,
  )
  expect(whyUnreadable(parseDefinition(tiny), { software: '2.0.0' }, '1.0.0')).toBeUndefined()
  expect(whyUnreadable(newer, { software: '1.0.0' }, '1.0.0')).toBeUndefined()
  expect(whyUnreadable(newer, {}, '1.0.0')).toBeUndefined()
})

it('leaves no room for a run whose memory the others have taken', () => {
  const live = [needs({}, 2 * gib)]
  expect(whyNoRoom(needs({}, 2 * gib), offer, live)).toBeUndefined()
  expect(whyNoRoom(needs({}, 2 * gib + 1), offer, live)).toMatch(/too little memory/)
  expect(whyNoRoom(needs({}, 2 * gib + 1), offer, [])).toBeUndefined()
})

describe('a run that asks for a GPU', () => {
  const gpu = offerOf({
    ...{ memoryBytes: 64 * gib, cores: 2, engine: 'webgpu', gpu: true },
    ...{ gpuMemory: 16 * gib, gpuSlots: 4 },
  })
  const asking = (gpuMemory: number) => needs({ gpuMemory })

  it('asks for one by its memory too', () => {
    expect(needs({ gpuMemory: gib })).toMatchObject({ gpu: true, gpuMemory: gib })
    expect(needs({ gpu: true })).not.toHaveProperty('gpuMemory')
  })

  it('fits a worker whose GPU has the memory, and is told which number is too small', () => {
    expect(whyUnfit(needs({ gpu: true }), gpu)).toEqual([])
    expect(whyUnfit(asking(16 * gib), gpu)).toEqual([])
    expect(whyUnfit(asking(17 * gib), gpu)).toEqual(['its GPU has 16.0 GiB of memory, and the run needs 17.0 GiB'])
    const { gpuMemory: _, ...unknown } = gpu
    expect(whyUnfit(needs({ gpu: true }), unknown)).toEqual([])
    expect(whyUnfit(asking(gib), unknown)).toEqual([expect.stringContaining('GESTALT_GPU_MEMORY')])
    const broken = { ...gpu, gpu: false, gpuFault: 'no adapter' }
    expect(whyUnfit(asking(gib), broken)).toEqual(['its GPU does not serve: no adapter'])
    expect(whyUnfit(needs(), broken)).toEqual(['its GPU does not serve: no adapter'])
  })

  it('cannot ask for an engine that has no GPU', () => {
    const check = (resources: object) => checkResources(parseDefinition({ ...tiny, resources }))
    expect(check({ gpu: true, engine: 'wasm' })).toMatchObject([
      { pointer: '/resources/engine', detail: expect.stringContaining("'wasm' computes on no GPU") },
    ])
    expect(check({ engine: 'wasm' })).toEqual([])
    expect(check({ gpu: true, engine: 'tensorflow' })).toEqual([])
  })

  it('has to ask for it where it trains in half precision', () => {
    const training = { ...tiny.training, precision: 'half' }
    const check = (resources: object) => checkResources(parseDefinition({ ...tiny, training, resources }))
    expect(check({})).toEqual([
      { pointer: '/training/precision', detail: expect.stringContaining('resources {"gpu": true}') },
    ])
    expect(check({ gpu: true })).toEqual([])
    expect(check({ gpuMemory: gib })).toEqual([])
    expect(check({ gpu: true, engine: 'webgpu' })).toEqual([])
    for (const resources of [{ gpu: true, engine: 'onnx-cuda' }, { engine: 'machine' }])
      expect(check(resources)).toEqual([
        { pointer: '/resources/engine', detail: expect.stringContaining('stores numbers in single precision only') },
      ])
  })

  it('shares the memory with those at work: each has what it asked for, or an even share', () => {
    expect(gpuLeft(gpu, [])).toBe(16 * gib)
    // One that asks for nothing counts too: it computes there as well.
    expect(gpuLeft(gpu, [asking(6 * gib), needs()])).toBe(6 * gib)
    expect(whyNoRoom(asking(6 * gib), gpu, [asking(6 * gib), needs()])).toBeUndefined()
    expect(whyNoRoom(asking(6 * gib + 1), gpu, [asking(6 * gib), needs()])).toBe(
      'its GPU has 6.0 GiB of 16.0 GiB free, and the run needs 6.0 GiB',
    )
    expect(whyNoRoom(needs({ gpu: true }), gpu, [asking(12 * gib)])).toBeUndefined()
    expect(whyNoRoom(needs(), gpu, [asking(13 * gib)])).toMatch(/3\.0 GiB of 16\.0 GiB free.*its share of 4\.0 GiB/)
    for (const one of [needs(), needs({ gpu: true })]) expect(whyNoRoom(one, gpu, [])).toBeUndefined()
  })

  it('has a whole card, of which the driver keeps some', () => {
    expect(whyNoRoom(asking(16 * gib), gpu, [], 15.5 * gib)).toBeUndefined()
    expect(whyNoRoom(asking(16 * gib), gpu, [], 15 * gib)).toMatch(/15\.0 GiB of 16\.0 GiB free/)
    expect(whyNoRoom(asking(8 * gib), gpu, [asking(8 * gib)], 7.9 * gib)).toMatch(/7\.9 GiB of 16\.0 GiB free/)
    const seen = { offer: gpu, concurrency: 4, runIds: [], gpuFreeBytes: 15.5 * gib }
    expect(whyWaiting(asking(16 * gib), [seen])).toBe('it is about to be taken')
  })

  it('goes where half precision is stored, if it trains in that', () => {
    const half = needsOf(
      parseDefinition({ ...tiny, training: { ...tiny.training, precision: 'half' }, resources: { gpu: true } }),
      gib,
    )
    expect(half).toMatchObject({ half: true })
    expect(needs({ gpu: true })).not.toHaveProperty('half')
    expect(whyUnfit(half, gpu)).toEqual(['it does not store numbers in half precision'])
    expect(whyUnfit(half, { ...gpu, half: true })).toEqual([])
  })

  it('has the GPU for itself where it found no room beside others', () => {
    const alone = { ...asking(2 * gib), alone: true }
    expect(whyNoRoom(alone, gpu, [asking(2 * gib)])).toMatch(/it found no room on the GPU.*once it is alone here/)
    expect(whyNoRoom(asking(2 * gib), gpu, [alone])).toMatch(/a run is at work here that found no room/)
    expect(whyNoRoom(alone, gpu, [])).toBeUndefined()
    expect(whyNoRoom(alone, gpu, [], gib)).toMatch(/1\.0 GiB of 16\.0 GiB free/)
    expect(gpuLeft(gpu, [alone])).toBe(0)
    const { gpuMemory: _, ...unknown } = gpu
    expect(whyNoRoom(alone, unknown, [needs()])).toMatch(/found no room/)
  })

  it('leaves alone what other programs use of the card', () => {
    expect(gpuLeft(gpu, [asking(6 * gib)], 8 * gib)).toBe(8 * gib)
    expect(gpuLeft(gpu, [asking(12 * gib)], 8 * gib)).toBe(4 * gib)
    expect(whyNoRoom(asking(9 * gib), gpu, [], 8 * gib)).toMatch(/8\.0 GiB of 16\.0 GiB free/)
    // Nobody knows what it needs, so that it is tried.
    expect(whyNoRoom(needs({ gpu: true }), gpu, [], 8 * gib)).toBeUndefined()
  })
})

describe('why a run waits', () => {
  const worker = { offer, concurrency: 1, runIds: [] }
  const busy = { ...worker, runIds: ['other'] }

  it('is said of any', () => {
    expect(whyWaiting(needs(), [])).toMatch("no worker is there: start one with 'gestalt worker'")
    expect(whyWaiting(needs({ cores: 9 }), [worker])).toBe('the only worker cannot take it: it has 2 cores of 9')
    expect(whyWaiting(needs({ cores: 9 }), [worker, busy])).toBe('none of 2 workers can take it: it has 2 cores of 9')
    expect(whyWaiting(needs(), [busy])).toBe('the worker that can take it is busy')
    expect(whyWaiting(needs(), [busy, busy])).toBe('all 2 workers that can take it are busy')
    expect(whyWaiting(needs(), [busy, worker])).toBe('it is about to be taken')
  })

  it('is said of one for a GPU with what each worker lacks', () => {
    const gpu = offerOf({
      ...{ memoryBytes: 64 * gib, cores: 2, engine: 'webgpu', gpu: true },
      ...{ gpuMemory: 16 * gib, gpuSlots: 2 },
    })
    const card = { offer: gpu, concurrency: 2, gpuName: 'NVIDIA T4', gpuFreeBytes: 16 * gib, runIds: [] }
    const full = { ...card, host: 'full', runIds: ['a', 'b'] }
    const tight = { ...card, host: 'tight', runIds: ['a'], gpuFreeBytes: 3 * gib }
    const dead = { ...card, host: 'dead', offer: { ...gpu, gpu: false, gpuFault: 'no adapter' } }
    expect(whyWaiting(needs({ gpu: true }), [])).toMatch(/on a machine with a GPU$/)
    expect(whyWaiting(needs({ gpuMemory: 8 * gib }), [{ ...worker, host: 'old' }, full, tight, dead])).toBe(
      'it waits for a worker with a GPU of 8.0 GiB free; the workers here: old (it has no GPU), ' +
        'full (NVIDIA T4: 2 of 2 slots busy), tight (NVIDIA T4: 3.0 GiB of 16.0 GiB free), ' +
        'dead (its GPU does not serve: no adapter)',
    )
    expect(whyWaiting(needs({ gpu: true }), [tight])).toBe(
      'it waits for a worker with a GPU; the workers here: tight (NVIDIA T4: 3.0 GiB of 16.0 GiB free)',
    )
    expect(whyWaiting(needs({ gpuMemory: 8 * gib }), [tight, card])).toBe('it is about to be taken')
    expect(whyWaiting(needs({ gpuMemory: 3 * gib }), [tight])).toBe('it is about to be taken')
  })

  it('is told by its worker where that gave it back, unless another takes it', () => {
    const reason = 'it found no room on the GPU beside 2 other runs; it is taken again once it is alone there'
    const last = { workerId: 'a', reason }
    const [a, b] = [
      { ...worker, id: 'a' },
      { ...worker, id: 'b' },
    ]
    expect(whyWaiting(needs(), [a], last)).toBe(reason)
    expect(whyWaiting(needs(), [a, { ...b, runIds: ['other'] }], last)).toBe(reason)
    expect(whyWaiting(needs(), [a, b], last)).toBe('it is about to be taken')
    expect(whyWaiting(needs(), [b], last)).toBe('it is about to be taken')
    expect(whyWaiting(needs(), [a], { workerId: 'a', reason: null })).toBe('it is about to be taken')
  })

  it('is said once of workers that all lack the same', () => {
    const host = (name: string) => ({ ...worker, host: name })
    const card = { ...worker, host: 'lab4', offer: { ...offer, gpu: true, gpuMemory: 16 * gib } }
    const waiting = (...workers: Parameters<typeof whyWaiting>[1]) =>
      whyWaiting(needs({ gpuMemory: 17 * gib }), workers)
    const waits = 'it waits for a worker with a GPU of 17.0 GiB free'
    const small = 'lab4 (its GPU has 16.0 GiB of memory, and the run needs 17.0 GiB)'
    expect(waiting(host('lab1'))).toBe(`${waits}; the workers here: lab1 (it has no GPU)`)
    expect(waiting(host('lab1'), host('lab2'), host('lab3'))).toBe(`${waits}; none of the 3 workers here has one`)
    expect(waiting(host('lab1'), card, host('lab2'))).toBe(
      `${waits}; the workers here: lab1 and lab2 (it has no GPU), ${small}`,
    )
    expect(waiting(host('lab1'), host('lab2'), host('lab3'), card)).toBe(
      `${waits}; the workers here: lab1 and 2 more (it has no GPU), ${small}`,
    )
    const sizes = Array.from({ length: 20 }, (_, i) => ({
      ...card,
      offer: { ...card.offer, gpuMemory: (i % 10) * gib },
    }))
    const told = waiting(...sizes)
    expect(told).toMatch(/, and others$/)
    expect(told.match(/lab4 and lab4 \(/g)).toHaveLength(8)
  })
})
