import { InvalidDefinition } from '../errors.ts'
import { type Definition, definitionVersion, parseDefinition } from './definition.ts'
import { listUnits, unitKinds } from './units.ts'

/** What a run needs of the worker that performs it. */
export interface Needs {
  /** Of the definition's schema. */
  version: number
  /** Units it names: 'method npid'. */
  units: readonly string[]
  memoryBytes: number
  cores: number
  gpu: boolean
  /** The engine it must be computed by; 'any' of them. */
  engine: string
  /** The version of the software that accepted it. */
  software?: string
}

/** What a worker has; its memory is for all its runs together. */
export interface Offer extends Omit<Needs, 'software'> {}

const singular = { methods: 'method', nets: 'net', datasets: 'dataset', evaluations: 'evaluation' } as const

/** Everything that a definition can name in this version of the software. */
function knownUnits(): string[] {
  return unitKinds.flatMap((kind) => listUnits(kind).map(({ name }) => `${singular[kind]} ${name}`))
}

/** `memoryBytes`: as planned, where the definition does not say. */
export function needsOf(definition: Definition, memoryBytes: number): Needs {
  const { version, resources, dataset, net, method, evaluations } = definition
  const named = [`dataset ${dataset.name}`, `net ${net.name}`, `method ${method.name}`]
  const units = new Set([...named, ...evaluations.map(({ name }) => `evaluation ${name}`)])
  return { version, units: [...units], ...resources, memoryBytes: resources.memoryBytes || memoryBytes }
}

export function offerOf(machine: Pick<Offer, 'memoryBytes' | 'cores' | 'gpu' | 'engine'>): Offer {
  return { version: definitionVersion, units: knownUnits(), ...machine }
}

const gibibytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`

/**
 * Why a worker can never perform a run, a reason each; none where it can. Runs and workers of versions that did not say
 * need and offer what they leave out.
 */
export function whyUnfit(needs: Partial<Needs>, offer: Partial<Offer>): string[] {
  const reasons: string[] = []
  const known = offer.units && new Set(offer.units)
  const unknown = (needs.units ?? []).filter((unit) => known && !known.has(unit))
  if ((needs.version ?? 0) > (offer.version ?? definitionVersion))
    reasons.push(`its software reads definitions up to version ${offer.version}, and this one is ${needs.version}`)
  if (unknown.length > 0) reasons.push(`its software does not know: ${unknown.join(', ')}`)
  if (needs.gpu && !offer.gpu) reasons.push('it has no GPU')
  if (needs.engine && needs.engine !== 'any' && offer.engine && needs.engine !== offer.engine)
    reasons.push(`it computes on ${offer.engine}, not on ${needs.engine}`)
  if ((needs.cores ?? 0) > (offer.cores ?? Infinity)) reasons.push(`it has ${offer.cores} cores of ${needs.cores}`)
  if ((needs.memoryBytes ?? 0) > (offer.memoryBytes ?? Infinity))
    reasons.push(
      `it has ${gibibytes(offer.memoryBytes!)} of memory, and the run needs ${gibibytes(needs.memoryBytes!)}`,
    )
  return reasons
}

/**
 * Why this version of the software cannot read a definition that another one accepted, which may know more parameters.
 * Undefined where it can, and where its own version accepted it: then it is no other's either.
 */
export function whyUnreadable(definition: unknown, { software }: Partial<Needs>, own: string): string | undefined {
  if (software === undefined || software === own) return undefined
  try {
    parseDefinition(definition)
    return undefined
  } catch (error) {
    if (!(error instanceof InvalidDefinition)) throw error
    return `its software is ${own}, and what ${software} accepted is more than it can read: ${error.message}`
  }
}

/** Whether a worker that performs these has memory for one more. */
export function hasRoom(needs: Partial<Needs>, offer: Offer, live: readonly Partial<Needs>[]): boolean {
  const taken = live.reduce((sum, each) => sum + (each.memoryBytes ?? 0), 0)
  return live.length === 0 || taken + (needs.memoryBytes ?? 0) <= offer.memoryBytes
}

/** A worker that is there, as one that waits sees it. */
export interface Seen {
  offer: Partial<Offer>
  concurrency: number
  runIds: readonly string[]
}

/** Why a run that is queued has not begun, for a person. */
export function whyWaiting(needs: Partial<Needs>, workers: readonly Seen[]): string {
  if (workers.length === 0) return "no worker is there: start one with 'gestalt worker'"
  const fitting = workers.filter(({ offer }) => whyUnfit(needs, offer).length === 0)
  if (fitting.length === 0) {
    const reasons = [...new Set(workers.flatMap(({ offer }) => whyUnfit(needs, offer)))]
    const all =
      workers.length === 1 ? 'the only worker cannot take it' : `none of ${workers.length} workers can take it`
    return `${all}: ${reasons.join('; ')}`
  }
  const busy = fitting.filter(({ runIds, concurrency }) => runIds.length >= concurrency)
  if (busy.length < fitting.length) return 'it is about to be taken'
  return fitting.length === 1
    ? 'the worker that can take it is busy'
    : `all ${fitting.length} workers that can take it are busy`
}
