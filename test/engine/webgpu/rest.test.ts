import { setTimeout } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { Rest } from '../../../src/engine/webgpu/rest.ts'

describe('a thread that waits for a device', () => {
  it('turns once a millisecond and not as often as it can', async () => {
    const rest = new Rest()
    let [turns, pending] = [0, true]
    const turn = () => {
      turns++
      if (pending) setImmediate(turn)
    }
    turn()
    const began = performance.now()
    await rest.until(setTimeout(300))
    pending = false
    // Quick ones at first; then each is an eighth longer than the last, up to a millisecond. Alone it makes thousands.
    expect(turns).toBeLessThan(80 + performance.now() - began)
    expect(turns).toBeGreaterThan(16)
  })

  it('gets what it waits for, or why it does not', async () => {
    const rest = new Rest()
    const [one, other] = [rest.until(Promise.resolve(1)), rest.until(Promise.reject(new Error('lost')))]
    expect(await one).toBe(1)
    await expect(other).rejects.toThrow('lost')
  })
})
