import { describe, expect, it } from 'vitest'
import { crowdedDelay, crowdedFailure, crowdedReason, crowdOf } from '../../src/jobs/crowded.ts'

const gib = 2 ** 30
const failure = { code: 'no-room', message: 'the memory of the GPU ran out', cure: 'take a smaller batch' }

describe('a run that found no room on a GPU', () => {
  it('was crowded by the runs beside it, whatever is measured', () => {
    const crowd = crowdOf(2, { usedBytes: 0, freeBytes: 16 * gib })!
    expect(crowd).toEqual({ beside: 2 })
    expect(crowdedDelay(crowd, 1)).toBe(0)
    expect(crowdedReason(crowd, 0)).toBe(
      'it found no room on the GPU beside 2 other runs; it is taken again once it is alone there',
    )
    expect(crowdedReason({ beside: 1 }, 0)).toContain('beside 1 other run;')
    expect(crowdedFailure(failure, crowd, 5)).toMatchObject({
      message: expect.stringMatching(/ran out; it was beside 2 other runs, the last of 5 times in a row/),
      cure: failure.cure,
    })
  })

  it('was crowded by other programs where they left less of the card than nine tenths', () => {
    const crowd = crowdOf(0, { usedBytes: 12.8 * gib, freeBytes: 3.1 * gib })!
    expect(crowdedDelay(crowd, 1)).toBe(60)
    expect(crowdedDelay(crowd, 4)).toBe(480)
    expect(crowdedReason(crowd, 60)).toBe(
      'it found no room on the GPU, of whose 15.9 GiB other programs left 3.1 GiB free; it is tried again in 60 s',
    )
    expect(crowdedFailure(failure, crowd, 5)).toEqual({
      code: 'no-room',
      message: expect.stringMatching(/ran out; of the card's 15\.9 GiB, 3\.1 GiB were free, .* 5 times in a row/),
      cure: 'end the other programs on that GPU, or compute on another one; or take a smaller batch',
    })
    // What a driver keeps is nobody's fault, nor is what a desktop shows.
    expect(crowdOf(0, { usedBytes: 2.3 * gib, freeBytes: 13.7 * gib })).toBeUndefined()
    expect(crowdOf(0, { usedBytes: 2.5 * gib, freeBytes: 13.5 * gib })).toBeDefined()
  })

  it('is to blame itself where nothing is known of others', () => {
    expect(crowdOf(0, {})).toBeUndefined()
    expect(crowdOf(0, { usedBytes: 12 * gib })).toBeUndefined()
  })
})
