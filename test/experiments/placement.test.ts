import { describe, expect, it } from 'vitest'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { hasRoom, needsOf, offerOf, whyUnfit, whyUnreadable, whyWaiting } from '../../src/experiments/placement.ts'
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
  expect(hasRoom(needs({}, 2 * gib), offer, live)).toBe(true)
  expect(hasRoom(needs({}, 2 * gib + 1), offer, live)).toBe(false)
  expect(hasRoom(needs({}, 2 * gib + 1), offer, [])).toBe(true)
})

it('says why a run waits', () => {
  const worker = { offer, concurrency: 1, runIds: [] }
  const busy = { ...worker, runIds: ['other'] }
  expect(whyWaiting(needs(), [])).toMatch("no worker is there: start one with 'gestalt worker'")
  expect(whyWaiting(needs({ gpu: true }), [worker])).toBe('the only worker cannot take it: it has no GPU')
  expect(whyWaiting(needs({ gpu: true }), [worker, busy])).toBe('none of 2 workers can take it: it has no GPU')
  expect(whyWaiting(needs(), [busy])).toBe('the worker that can take it is busy')
  expect(whyWaiting(needs(), [busy, busy])).toBe('all 2 workers that can take it are busy')
  expect(whyWaiting(needs(), [busy, worker])).toBe('it is about to be taken')
})
