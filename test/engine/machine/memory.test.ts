import { describe, expect, it } from 'vitest'
import { Assembler } from '../../../src/engine/machine/assembler.ts'
import { instructions, startMachine, whyNotHere } from '../../../src/engine/machine/index.ts'
import { mapRegion, openSystem, placeCode, unmapRegion } from '../../../src/engine/machine/memory.ts'
import { at, rax, rdi, rsi } from '../../../src/engine/machine/operands.ts'
import { Pool } from '../../../src/engine/machine/pool.ts'
import { tf } from '../../../src/tf.ts'

describe('where machine code can run', () => {
  it.each([
    [['darwin', 'arm64', ''], 'its machine code is for Linux on x86-64, and this is darwin arm64'],
    [['linux', 'x64', 'sse4_2 avx2'], 'this processor does not have AVX-512'],
    [['linux', 'x64', `avx2 ${instructions}`], undefined],
  ] as const)('%j: %s', ([platform, arch, flags], reason) => {
    expect(whyNotHere(platform, arch, flags)).toBe(reason)
  })
})

describe.skipIf(whyNotHere())('memory from the system', () => {
  it('is full of zeros, is seen by both sides, and runs code that was put there', () => {
    const numbers = mapRegion(64)
    const words = new BigInt64Array(numbers.buffer, 0, 2)
    expect([...words]).toEqual([0n, 0n])
    const a = new Assembler()
    a.mov(rax, at(rdi))
    a.add(rax, rsi)
    a.mov(at(rdi, 8), rax)
    a.ret()
    const code = placeCode(a.finish())
    words[0] = 40n
    openSystem().call(code.address, numbers.address, 2)
    expect([...words]).toEqual([40n, 42n])
    unmapRegion(code)
    unmapRegion(numbers)
  })

  it('says so where there is not enough', () => {
    expect(() => mapRegion(2 ** 50)).toThrow(
      expect.objectContaining({ name: 'NoRoom', cure: expect.stringMatching(/smaller/) }),
    )
  })

  it('is taken again by tensors once it was given back', () => {
    const pool = new Pool()
    const [first, second] = [pool.take(5000), pool.take(5000)]
    expect(second.address).toBeGreaterThanOrEqual(first.address + 5000)
    pool.give(first)
    expect(pool.take(4900).address).toBe(first.address)
    expect(pool.bytes).toBe(2 ** 26)
  })
})

describe.skipIf(whyNotHere())('many graphs as machine code', () => {
  it('close when others come, though threads may still be leaving them', async () => {
    const engine = await startMachine({ threads: 3 })
    for (let i = 0; i < 300; i++) {
      const size = 8192 + i
      const sum = tf.tidy(() => tf.sum(tf.add(tf.fill([size], 1), tf.range(0, size, 1))))
      expect(sum.dataSync()[0]! / (size + (size * (size - 1)) / 2)).toBeCloseTo(1, 5)
      sum.dispose()
    }
    const { sessions, programRuns, compiles } = engine.stats()
    expect(sessions).toBeLessThanOrEqual(32)
    expect([programRuns, compiles]).toEqual([300, 300])
    engine.dispose()
  })
})

describe.skipIf(whyNotHere())('a long training as machine code', () => {
  it('takes no more memory after 3,000 steps, though their images are new ones each time', async () => {
    const engine = await startMachine({ threads: 2 })
    const weights = tf.variable(tf.fill([784, 16], 0.01))
    const optimizer = tf.train.momentum(0.001, 0.9)
    let state = 1
    const step = () => {
      const images = Float32Array.from({ length: 8 * 784 }, () => {
        state = (state * 16807) % 2147483647
        return state / 2147483647
      })
      const loss = tf.tidy(() => {
        const x = tf.tensor2d(images, [8, 784])
        return optimizer.minimize(() => tf.mean(tf.square(tf.matMul(x, weights as unknown as tf.Tensor2D))), true)!
      })
      const value = loss.dataSync()[0]!
      loss.dispose()
      return value
    }
    const first = step()
    for (let i = 0; i < 200; i++) step()
    const { compiles } = engine.stats()
    const tensors = tf.memory().numTensors
    const taken = engine.memoryBytes()
    let last = 0
    for (let i = 0; i < 3000; i++) last = step()
    expect(last).toBeLessThan(first)
    expect(engine.stats()).toMatchObject({ compiles, fallbacks: {} })
    expect(tf.memory().numTensors).toBe(tensors)
    expect(engine.memoryBytes()).toBe(taken)
    tf.dispose([weights])
    engine.dispose()
  })
})
