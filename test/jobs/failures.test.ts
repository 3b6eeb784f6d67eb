import { describe, expect, it } from 'vitest'
import { Damaged, Diverged, GpuFull, InvalidDefinition, NoRoom, TooLarge, Unavailable } from '../../src/errors.ts'
import { crashFailure, failureOf, memoryFailure, retryDelay, vanishedFailure } from '../../src/jobs/failures.ts'

describe('the translation of errors into failures', () => {
  it('keeps code, message and cure of our own errors', () => {
    const error = new Diverged('the loss of step 3 is NaN', 'lower the learning rate')
    expect(failureOf(error)).toEqual({
      failure: { code: 'diverged', message: 'the loss of step 3 is NaN', cure: 'lower the learning rate' },
      again: false,
    })
  })

  it('tries again only what may be there later', () => {
    expect(failureOf(new Unavailable('the store does not answer', 'start it')).again).toBe(true)
    expect(failureOf(new Damaged('the file is cut short', 'fetch it again')).again).toBe(false)
    expect(failureOf(new InvalidDefinition([{ pointer: '/seed', detail: 'is no number' }])).again).toBe(false)
    expect(failureOf(new TypeError('x is not a function')).again).toBe(false)
  })

  it('says when room or memory ran out', () => {
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
    expect(failureOf(full).failure.code).toBe('no-room')
    const memory = new RangeError('WebAssembly.Memory.grow(): Maximum memory size exceeded')
    expect(failureOf(memory).failure).toMatchObject({ code: 'out-of-memory', cure: expect.stringContaining('batch') })
    const gpu = new Error('the GPU is out of memory: a buffer of 3.1 GiB was refused')
    expect(failureOf(gpu).failure).toMatchObject({ code: 'out-of-memory', cure: expect.stringMatching(/gpuMemory/) })
  })

  it('knows what TensorFlow says of a GPU that is full, and tries again where one failed', () => {
    const full = 'Message: OOM when allocating tensor with shape[512,64,224,224] on device:GPU:0 by allocator GPU_0_bfc'
    for (const said of [full, 'CUDA_ERROR_OUT_OF_MEMORY while a stream was made'])
      expect(failureOf(new Error(said))).toMatchObject({
        failure: { code: 'out-of-memory', cure: expect.stringMatching(/gpuMemory/) },
        again: false,
        gpuFull: true,
      })
    const lost = 'Failed to synchronize: CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered'
    expect(failureOf(new Error(lost))).toEqual({
      failure: { code: 'unavailable', message: `the GPU failed: ${lost}`, cure: expect.stringContaining('nvidia-smi') },
      again: true,
      gpuLost: true,
    })
    const runtime = new Unavailable('the engine cannot compute this: CUDA failure 719: unspecified launch failure', 'x')
    expect(failureOf(runtime)).toMatchObject({ failure: { code: 'unavailable' }, again: true, gpuLost: true })
    expect(failureOf(new Unavailable('the store does not answer', 'start it'))).not.toHaveProperty('gpuLost')
  })

  it('tells a GPU that is full from a disk, from the memory of a machine, and from what no GPU has room for', () => {
    expect(failureOf(new GpuFull('the memory of the GPU ran out', 'take less'))).toEqual({
      failure: { code: 'no-room', message: 'the memory of the GPU ran out', cure: 'take less' },
      ...{ again: false, gpuFull: true },
    })
    const others = [
      new NoRoom('the disk is full', 'x'),
      new TooLarge('too large for any GPU', 'x'),
      new Error('bad_alloc'),
    ]
    for (const other of others) expect(failureOf(other)).not.toHaveProperty('gpuFull')
  })

  it('never shows a stack trace', () => {
    const { failure } = failureOf(new TypeError('x is not a function'))
    expect(failure).toMatchObject({ code: 'internal', message: 'x is not a function' })
    expect(JSON.stringify(failure)).not.toContain('.ts:')
  })
})

describe('the failure of a run whose processes were lost', () => {
  const ending = { said: undefined, code: null, signal: 'SIGSEGV' as const, lastWords: ['first', 'last'] }

  it('names the signal or the exit code, and the last words', () => {
    expect(crashFailure(ending, 5)).toMatchObject({
      code: 'crashed',
      message: expect.stringMatching(/SIGSEGV.*5 times.*last/),
    })
    expect(crashFailure({ ...ending, signal: null, code: 13, lastWords: [] }, 5).message).toContain('exit code 13')
  })

  it('recognises memory that ran out, in JavaScript and below it', () => {
    const heap = ['FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory', 'Aborted']
    const native = ["terminate called after throwing an instance of 'std::bad_alloc'", '  what():  std::bad_alloc']
    for (const lastWords of [heap, native])
      for (const end of [
        { code: null, signal: 'SIGABRT' as const },
        { code: 134, signal: null },
      ])
        expect(memoryFailure({ said: undefined, ...end, lastWords })).toMatchObject({
          failure: {
            code: 'out-of-memory',
            message: expect.stringMatching(/(SIGABRT|exit code 134)\): .*(heap|bad_alloc)/),
            cure: expect.stringContaining('batchSize'),
          },
        })
    const onGpu = ['failed to allocate 2.1G from device: CUDA_ERROR_OUT_OF_MEMORY: out of memory', 'Aborted']
    const aborted = { said: undefined, code: null, signal: 'SIGABRT' as const }
    expect(memoryFailure({ ...aborted, lastWords: onGpu })).toMatchObject({ gpuFull: true })
    expect(memoryFailure({ ...aborted, lastWords: heap })).not.toHaveProperty('gpuFull')
    expect(memoryFailure(ending)).toBeUndefined()
  })

  it('suspects the system of a bare SIGKILL, and tries such a run again', () => {
    const killed = { ...ending, signal: 'SIGKILL' as const, lastWords: ['out of memory, said a neighbour'] }
    expect(memoryFailure(killed)).toBeUndefined()
    expect(crashFailure(killed, 5).cure).toContain('memory')
  })

  it('speaks of the worker where that vanished', () => {
    expect(vanishedFailure(5)).toMatchObject({ code: 'crashed', message: expect.stringContaining('5 times') })
  })
})

it('goes on at once after a first crash, and gives a missing service time', () => {
  expect(retryDelay(1, 'crash')).toBe(0)
  expect(retryDelay(4, 'crash')).toBe(3)
  expect([1, 2, 3, 4].map((losses) => retryDelay(losses, 'unavailable'))).toEqual([2, 4, 8, 16])
  expect(retryDelay(50, 'unavailable')).toBe(30)
})
