import { type EngineChoice, type EngineName, type EngineSettings, noEngine } from '../engine/choice.ts'
import { Unavailable } from '../errors.ts'
import type { Logger } from '../experiments/context.ts'
import type { RejectedEngine } from '../experiments/run.ts'
import { type Ending, startEngineChild } from './child-process.ts'
import type { Progress } from './messages.ts'

export interface ProbeOptions extends EngineSettings {
  engine: EngineName
  environment: NodeJS.ProcessEnv
  log: Logger
  signal?: AbortSignal
  /** How long one engine may take to load and pass its self-test. */
  patienceSeconds?: number
}

/** What a search knows so far. */
interface Search {
  rejected: RejectedEngine[]
  /** Candidates that need not be tried (again). */
  skip: Set<string>
}

interface Probed {
  ending: Ending
  /** Which candidate was at work when the child ended. */
  tried: string | undefined
  late: boolean
}

/** One child tries one candidate after the other, and tells what it rejects as it goes. */
async function probeOnce(options: ProbeOptions, search: Search, patience: number): Promise<Probed> {
  const { engine, gpu, places, threads, environment, log, signal } = options
  let tried: string | undefined
  let late = false
  const onProgress = (progress: Progress) => {
    timer.refresh()
    if (progress.type === 'trying') tried = progress.engine
    if (progress.type === 'rejected') reject(search, progress.rejected)
  }
  const asked = { engine, gpu, places, threads, skip: [...search.skip] }
  const child = startEngineChild(asked, { environment, log }, onProgress)
  const timer = setTimeout(() => {
    late = true
    child.kill()
  }, patience * 1000)
  signal?.addEventListener('abort', child.kill)
  const ending = await child.ended
  clearTimeout(timer)
  signal?.removeEventListener('abort', child.kill)
  return { ending, tried, late }
}

function reject({ rejected, skip }: Search, engine: RejectedEngine): void {
  rejected.push(engine)
  skip.add(engine.engine)
}

function lossOf(engine: string, { ending, late }: Probed, patience: number): RejectedEngine {
  const how = late
    ? `it did not answer within ${patience} s`
    : `it took its process down (${ending.signal ?? `exit code ${ending.code}`})`
  const words = ending.lastWords.slice(-3).join(' | ').slice(0, 300)
  return {
    engine,
    reason: words ? `${how}: ${words}` : how,
    cure: 'its library does not fit this machine: reinstall the packages (npm ci), or use another engine',
  }
}

/**
 * The next engine that works; undefined where none is left. Children try them, so that a library that crashes or hangs
 * takes nothing else down: the next child goes on behind it. Throws Unavailable where `signal` ended the search.
 */
async function findNext(options: ProbeOptions, search: Search): Promise<EngineChoice | undefined> {
  const { signal, patienceSeconds = 60 } = options
  for (;;) {
    if (signal?.aborted) throw new Unavailable('the search for an engine was ended', 'start it again')
    const probed = await probeOnce(options, search, patienceSeconds)
    const { tried = 'any', ending } = probed
    if (ending.said?.type === 'engine') return ending.said.choice
    if (signal?.aborted) continue
    if (ending.said?.type === 'failed') return undefined
    const again = search.skip.has(tried)
    reject(search, lossOf(tried, probed, patienceSeconds))
    if (again || tried === 'any') return undefined // it is not an engine that ends these processes
  }
}

/** The fastest engine that works, or the one that is wanted. Throws Unavailable, with reasons and cures, where none does. */
export async function probeEngine(options: ProbeOptions): Promise<EngineChoice> {
  const search: Search = { rejected: [], skip: new Set() }
  const choice = await findNext(options, search)
  if (!choice) throw noEngine(options.engine, search.rejected)
  return { ...choice, rejected: search.rejected }
}

/** Every engine in the order of preference: what it is where it works, and why not where it does not. */
export async function probeAllEngines(
  options: Omit<ProbeOptions, 'engine'>,
): Promise<(EngineChoice | RejectedEngine)[]> {
  const search: Search = { rejected: [], skip: new Set() }
  const all: (EngineChoice | RejectedEngine)[] = []
  for (;;) {
    const choice = await findNext({ ...options, engine: 'auto' }, search)
    all.push(...search.rejected.splice(0))
    if (!choice) return all
    all.push(choice)
    search.skip.add(choice.candidate)
  }
}
