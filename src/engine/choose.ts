import { GestaltError, Unavailable } from '../errors.ts'
import type { RejectedEngine } from '../experiments/run.ts'
import { tf } from '../tf.ts'
import { type Candidate, candidates } from './candidates.ts'
import { type EngineChoice, type EngineName, type EngineSettings, isProven, noEngine, type Proven } from './choice.ts'
import { selfTest } from './self-test.ts'

/** `threads` is 1 by default. */
export interface ChooseOptions extends Partial<EngineSettings> {
  /** What has passed the self-test in another process of this worker: the same need not be tested again. */
  proven?: Proven | undefined
  /** Names of candidates that are not tried. */
  skip?: readonly string[]
  /** Hears which candidate is tried next: a native library may take the process down. */
  onTry?(candidate: string): void
  onReject?(rejected: RejectedEngine): void
  from?: readonly Candidate[]
}

async function attempt(
  { name, engine, start, half: able }: Candidate,
  { threads = 1, gpu, places, half, proven }: ChooseOptions,
): Promise<Omit<EngineChoice, 'rejected'>> {
  if (half && !able)
    throw new Unavailable(
      'it stores numbers in single precision only',
      'leave training.precision at "single", or train on a worker with GESTALT_ENGINE=webgpu and a GPU',
    )
  const { dispose, driver, ...started } = await start({ threads, gpu, places, half })
  try {
    await tf.ready()
    const found: Proven = { candidate: name, engine: { name: engine, ...started }, driver }
    const tested = !half && isProven(found, proven)
    return { ...found, selfTestMilliseconds: tested ? 0 : await selfTest() }
  } catch (error) {
    dispose?.()
    throw error
  }
}

function rejection(engine: string, error: unknown): RejectedEngine {
  if (error instanceof GestaltError) return { engine, reason: error.message, cure: error.cure }
  const reason = error instanceof Error ? error.message : String(error)
  return { engine, reason: `it fails: ${reason}`, cure: 'reinstall the packages: npm ci' }
}

/**
 * Makes the fastest engine that passes the self-test compute for the whole process, or the one that is wanted, and says
 * what it is and why those before it do not serve. Throws Unavailable with the reasons and cures where none does.
 */
export async function chooseEngine(wanted: EngineName, options: ChooseOptions = {}): Promise<EngineChoice> {
  const { skip = [], onTry, onReject, from = candidates } = options
  const rejected: RejectedEngine[] = []
  for (const candidate of from) {
    if (wanted !== 'auto' && candidate.engine !== wanted) continue
    if (skip.includes(candidate.name)) continue
    onTry?.(candidate.name)
    try {
      return { ...(await attempt(candidate, options)), rejected }
    } catch (error) {
      const reason = rejection(candidate.name, error)
      rejected.push(reason)
      onReject?.(reason)
    }
  }
  throw noEngine(wanted, rejected)
}
