import type { Config } from '../config.ts'
import { Unavailable } from '../errors.ts'
import type { EngineRecord, RejectedEngine } from '../experiments/run.ts'

/** What a person may ask for: `auto` is the first of the table of candidates that works on this machine. */
export type EngineName = Config['engine']

/** Which GPU, where an engine can have one or another; see Config. */
export type GpuChoice = Config['gpu']

/** How engines are started; each takes what concerns it. */
export interface EngineSettings {
  /** Of an engine that can use more than one. */
  threads: number
  /** Which GPU; by default the first that is one. */
  gpu?: GpuChoice | undefined
  /** Where engines find what was not installed with the packages. */
  places?: Config['enginePlaces'] | undefined
  /** Whether activations are to be stored in half precision. */
  half?: boolean | undefined
}

/** What has passed the self-test. */
export interface Proven {
  engine: EngineRecord & { name: Exclude<EngineName, 'auto'> }
  /** Which row of the table of candidates it is. */
  candidate: string
  /** What drives its GPU, where the engine says so. */
  driver?: string | undefined
}

/** An engine that computes and has passed the self-test. */
export interface EngineChoice extends Proven {
  /** 0 where it was proven before. */
  selfTestMilliseconds: number
  /** Those before it in the table that do not serve here. */
  rejected: readonly RejectedEngine[]
}

/**
 * Whether a test would find what another process on this machine has found: the same engine on the same GPU with the same
 * driver. Not asked where the engine names no driver, which may be another one since.
 */
export function isProven(found: Proven, proven: Proven | undefined): boolean {
  const text = ({ candidate, engine, driver }: Proven) => JSON.stringify({ candidate, engine, driver })
  return !!proven?.driver && text(found) === text(proven)
}

/** '4.22.0, 1 thread, AMD EPYC'. */
export function describeMake({ version, threads, device }: Omit<EngineRecord, 'name'>): string {
  return `${version}, ${threads} ${threads === 1 ? 'thread' : 'threads'}, ${device}`
}

/** 'wasm 4.22.0, 1 thread, AMD EPYC'. */
export function describeEngine(engine: EngineRecord): string {
  return `${engine.name} ${describeMake(engine)}`
}

export function describeRejection({ engine, reason, cure }: RejectedEngine): string {
  return `the engine ${engine} does not serve: ${reason}: ${cure}`
}

const instead = (wanted: EngineName) =>
  `or set GESTALT_ENGINE=auto${wanted === 'webgpu' ? ', and no GESTALT_GPU' : ''}; 'gestalt doctor' lists what works`

/** The error of a search that found nothing, with every reason and cure. */
export function noEngine(wanted: EngineName, rejected: readonly RejectedEngine[]): Unavailable {
  const reasons = rejected.map(({ engine, reason }) => (rejected.length > 1 ? `${engine}: ${reason}` : reason))
  const cures = [...new Set(rejected.map(({ cure }) => cure))]
  return new Unavailable(
    wanted === 'auto'
      ? `no engine works on this machine: ${reasons.join('; ')}`
      : `${wanted === 'webgpu' ? 'GESTALT_ENGINE or GESTALT_GPU' : 'GESTALT_ENGINE'} asks for '${wanted}', which does not work here: ${reasons.join('; ')}`,
    [...cures, ...(wanted === 'auto' ? [] : [instead(wanted)])].join('; '),
  )
}
