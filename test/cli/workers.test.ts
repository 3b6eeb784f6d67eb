import { describe, expect, it } from 'vitest'
import { type ListedWorker, workersInWords } from '../../src/cli/workers.ts'

const gib = 2 ** 30
const worker: ListedWorker = {
  ...{ id: 'w1', host: 'here', state: 'online', version: '0.1.0', engine: 'machine', threads: 2, device: 'Xeon' },
  ...{ memoryBytes: 8 * gib, concurrency: 2, runIds: ['r'], heartbeatAt: 'now' },
  ...{ gpuName: null, gpuMemoryBytes: null, gpuFreeBytes: null, gpuUtilisation: null, gpuFault: null },
}
const gpu = { engine: 'webgpu', threads: 1, device: 'NVIDIA H200', gpuName: 'NVIDIA H200' }

/** The second line of the table. */
const rowOf = (changes: Partial<ListedWorker>) => workersInWords([{ ...worker, ...changes }]).split('\n')[1]

describe('workers for a person', () => {
  it('compute on threads, on a GPU with its memory, or on what only looks like one', () => {
    expect(rowOf({})).toMatch(/ machine, 2 threads {2,}8\.0 GiB +1 of 2 +now$/)
    expect(rowOf({ threads: 1 })).toMatch(/ machine, 1 thread /)
    const memory = { gpuMemoryBytes: String(8 * gib), gpuFreeBytes: 2 * gib, gpuUtilisation: 0.5 }
    expect(rowOf({ ...gpu, ...memory })).toMatch(/ webgpu +NVIDIA H200, 2\.0 GiB left of 8\.0 GiB, 50 % busy /)
    expect(rowOf({ ...gpu, device: 'SwiftShader Device', gpuName: null })).toMatch(/ webgpu on SwiftShader Device /)
  })

  it('say below why a GPU does not serve', () => {
    const words = workersInWords([worker, { ...worker, ...gpu, id: 'w2', gpuFault: 'its driver went away' }])
    expect(words).toMatch(/NVIDIA H200, DOES NOT SERVE/)
    expect(words.split('\n').slice(3)).toEqual(['the GPU of w2: its driver went away'])
    expect(workersInWords([])).toBe('no workers')
  })
})
