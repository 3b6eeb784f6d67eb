import { GestaltError, GpuFull, GpuLost, Unavailable } from '../errors.ts'
import type { Failure } from '../experiments/run.ts'
import type { Ending } from './child-process.ts'

/**
 * The retry policy, by what happened. A child that is lost (killed, crashed, its worker gone) or that misses a service
 * is tried again, at most this often in a row without a newer checkpoint; everything else it says itself would happen
 * again the same way, so the run fails at once.
 */
export const mostLosses = 5

/** Seconds before the attempt after the n-th loss in a row: a crash goes on at once, a missing service gets time. */
export function retryDelay(losses: number, cause: 'crash' | 'unavailable'): number {
  if (cause === 'crash') return losses <= 1 ? 0 : losses - 1
  return Math.min(2 ** losses, 30)
}

/** Seconds for which a worker whose GPU did not serve, n times in a row, takes no run: all of its runs compute there. */
export function gpuPause(times: number): number {
  return Math.min(60 * 2 ** (times - 1), 3600)
}

const outOfMemory =
  /out[ _]of[ _]memory|memory size exceeded|allocation failed|failed to allocate|bad[_ ]alloc|cannot allocate memory|\boom when allocating/i
export const memoryCure =
  'lower training.batchSize, use a smaller net or dataset limit, run fewer runs at once (GESTALT_CONCURRENCY), or give ' +
  'the worker more memory'

/** A GPU that failed under CUDA, in the words of TensorFlow and ONNX Runtime. */
const gpuFailed = /\b(CUDA_ERROR_|CUBLAS_STATUS_|CUDNN_STATUS_)\w+|\bCUDA (error|failure)\b/

const gpuFailedCure =
  'the run is taken up again from its checkpoint; if it happens again, see that the GPU and its driver are well ' +
  "('nvidia-smi -q', and Xid messages in the system's log)"

const gpuMemoryCure =
  'lower training.batchSize, use a smaller net, ask for a GPU with more memory (resources.gpuMemory), or run fewer at once ' +
  'on it (GESTALT_GPU_SLOTS)'

/** Which memory ran out shows in the words of whoever wanted it. */
const ofGpu = (said: string) => /\b(gpu|vram|vulkan|device memory)\b|cuda/i.test(said)

interface Judged {
  failure: Failure
  /** Whether waiting may help. */
  again: boolean
  /** Whether the GPU that computed failed. */
  gpuLost?: true
  /** Whether the GPU that computed had no room, of which it might have more while others do not compute there. */
  gpuFull?: true
}

function outOfMemoryFailure(message: string, words: string): Pick<Judged, 'failure' | 'gpuFull'> {
  const full = ofGpu(words)
  const failure = { code: 'out-of-memory', message, cure: full ? gpuMemoryCure : memoryCure }
  return full ? { failure, gpuFull: true } : { failure }
}

/** An error as its owner reads it, without a stack trace, and what may help. */
export function failureOf(error: unknown): Judged {
  const { code, message } = error as NodeJS.ErrnoException
  if (error instanceof GestaltError) {
    const failure = { code: error.code, message: error.message, cure: error.cure }
    const lost = error instanceof GpuLost || (error instanceof Unavailable && gpuFailed.test(error.message))
    const full = error instanceof GpuFull
    return {
      ...{ failure, again: error instanceof Unavailable },
      ...(lost ? { gpuLost: true } : {}),
      ...(full ? { gpuFull: true } : {}),
    }
  }
  if (code === 'ENOSPC' || code === 'EFBIG' || code === 'EDQUOT') {
    const cure = 'free space on the disk of the object store, then submit it again'
    return { failure: { code: 'no-room', message: `there is no room left: ${message}`, cure }, again: false }
  }
  const said = error instanceof Error ? error.message : String(error)
  if (outOfMemory.test(said)) return { ...outOfMemoryFailure(`memory ran out: ${said}`, said), again: false }
  if (gpuFailed.test(said)) return failureOf(new GpuLost(`the GPU failed: ${said}`, gpuFailedCure))
  const cure = "this is a fault in Gestalt rather than in the definition: the worker's log has the details"
  return { failure: { code: 'internal', message: said, cure }, again: false }
}

/**
 * The failure of a child that broke off because it was given no more memory; undefined where it ended otherwise. It
 * would break off again. One that the system killed may have paid for a neighbour, and is tried again.
 */
export function memoryFailure({ code, signal, lastWords }: Ending): Pick<Judged, 'failure' | 'gpuFull'> | undefined {
  if (signal === 'SIGKILL' || !outOfMemory.test(lastWords.join('\n'))) return undefined
  const words = lastWords.findLast((line) => outOfMemory.test(line))!
  const message = `memory ran out, and the process that performed it broke off (${signal ?? `exit code ${code}`}): ${words}`
  return outOfMemoryFailure(message.slice(0, 600), words)
}

/** What became of a run whose children ended without a word, `losses` times in a row. */
export function crashFailure(ending: Ending, losses: number): Failure {
  const how = ending.signal ? `was killed by ${ending.signal}` : `ended with exit code ${ending.code}`
  const words = ending.lastWords.slice(-3).join(' | ').slice(0, 600)
  const message = `the process that performed it ${how}, ${losses} times in a row without a newer checkpoint`
  const cure =
    ending.signal === 'SIGKILL'
      ? `if nobody killed it, the system did for want of memory: ${memoryCure}`
      : "see the worker's log; if it happens on every machine, this is a fault in Gestalt"
  return { code: 'crashed', message: words ? `${message}; its last words: ${words}` : message, cure }
}

/** What became of a run whose workers vanished with it, `losses` times in a row. */
export function vanishedFailure(losses: number): Failure {
  return {
    code: 'crashed',
    message: `its worker vanished ${losses} times in a row while performing it, without a newer checkpoint`,
    cure: `see the workers' logs and their machines' memory; ${memoryCure}`,
  }
}
