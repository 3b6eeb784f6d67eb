import { type Fault, gibibytes, InvalidDefinition } from '../errors.ts'
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
  /** Bytes of the GPU's memory; where absent, an even share of what its worker has. */
  gpuMemory?: number
  /** Whether activations are stored in half precision. */
  half?: boolean
  /** The engine it must be computed by; 'any' of them. */
  engine: string
  /** The version of the software that accepted it. */
  software?: string
}

/** What a worker has; its memory and that of its GPU are for all its runs together. */
export interface Offer extends Omit<Needs, 'software'> {
  /** Runs at once on its GPU. */
  gpuSlots?: number
  /** Why its GPU, which it had before, does not serve now. */
  gpuFault?: string
}

const singular = { methods: 'method', nets: 'net', datasets: 'dataset', evaluations: 'evaluation' } as const

/** Everything that a definition can name in this version of the software. */
function knownUnits(): string[] {
  return unitKinds.flatMap((kind) => listUnits(kind).map(({ name }) => `${singular[kind]} ${name}`))
}

/** `memoryBytes`: as planned, where the definition does not say. */
export function needsOf(definition: Definition, memoryBytes: number): Needs {
  const { version, resources, dataset, net, method, training, evaluations } = definition
  const half = training.precision === 'half' ? { half: true } : {}
  const named = [`dataset ${dataset.name}`, `net ${net.name}`, `method ${method.name}`]
  const units = new Set([...named, ...evaluations.map(({ name }) => `evaluation ${name}`)])
  return { version, units: [...units], ...resources, ...half, memoryBytes: resources.memoryBytes || memoryBytes }
}

/** Engines that compute on processors alone, whatever else a machine has. */
const processorEngines: readonly string[] = ['machine', 'onnx', 'wasm', 'cpu']

/** Of those that compute on GPUs, the one that can store numbers in half precision. */
const halfEngines: readonly string[] = ['any', 'webgpu']

/** What no worker can have, and what a definition's other parts need of one and it does not ask for. */
export function checkResources({ resources, training }: Pick<Definition, 'resources' | 'training'>): Fault[] {
  const { gpu, engine } = resources
  const half = training.precision === 'half'
  if (gpu && processorEngines.includes(engine)) {
    const detail = `'${engine}' computes on no GPU, and the resources ask for one; leave it out, or ask for no GPU`
    return [{ pointer: '/resources/engine', detail }]
  }
  if (half && !halfEngines.includes(engine)) {
    const detail = `'${engine}' stores numbers in single precision only; with training.precision "half" leave it out, or say "webgpu"`
    return [{ pointer: '/resources/engine', detail }]
  }
  if (half && !gpu) {
    const detail =
      '"half" needs a worker with a GPU; ask for one with resources {"gpu": true}, or leave the precision at "single"'
    return [{ pointer: '/training/precision', detail }]
  }
  return []
}

export function offerOf(
  machine: Pick<Offer, 'memoryBytes' | 'cores' | 'gpu' | 'gpuMemory' | 'gpuSlots' | 'half' | 'engine'>,
): Offer {
  return { version: definitionVersion, units: knownUnits(), ...machine }
}

/** The reason of a worker that never had one. */
export const hasNoGpu = 'it has no GPU'

/**
 * Why a worker's GPU is none for a run; undefined where it is one, or none is asked for. All runs of a worker with a GPU
 * compute on it: while it does not serve, none can.
 */
function whyNoGpu(needs: Partial<Needs>, { gpu, gpuMemory, gpuFault, half }: Partial<Offer>): string | undefined {
  if (!gpu && gpuFault !== undefined) return `its GPU does not serve: ${gpuFault}`
  if (needs.gpu && !gpu) return hasNoGpu
  if (needs.half && !half) return 'it does not store numbers in half precision'
  if (!needs.gpu) return undefined
  if (needs.gpuMemory === undefined) return undefined
  if (gpuMemory === undefined)
    return 'it does not know how much memory its GPU has (GESTALT_GPU_MEMORY would tell), and the run asks for some'
  if (needs.gpuMemory <= gpuMemory) return undefined
  return `its GPU has ${gibibytes(gpuMemory)} of memory, and the run needs ${gibibytes(needs.gpuMemory)}`
}

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
  const noGpu = whyNoGpu(needs, offer)
  if (noGpu) reasons.push(noGpu)
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

/** A run as a worker counts it. */
export interface Load extends Partial<Needs> {
  /** Whether it found no room there beside others, whatever it was to take: it computes there alone, or not at all. */
  alone?: boolean
}

/** Bytes of a worker's GPU that a run counts as; every run of a worker with a GPU computes on it. */
function gpuShare({ gpuMemory }: Partial<Needs>, offer: Offer): number {
  return gpuMemory ?? Math.floor((offer.gpuMemory ?? 0) / (offer.gpuSlots ?? 1))
}

/**
 * Bytes of its GPU that a worker which performs these can give a further run; undefined where it has none or does not
 * know. `cardFree`: what nobody uses of the card's memory, as measured: other programs may take of it.
 */
export function gpuLeft(offer: Offer, live: readonly Load[], cardFree = Infinity): number | undefined {
  const { gpu, gpuMemory } = offer
  if (!gpu || gpuMemory === undefined) return undefined
  const promised = live.reduce((sum, each) => sum + (each.alone ? gpuMemory : gpuShare(each, offer)), 0)
  return Math.max(0, Math.min(gpuMemory - promised, cardFree))
}

/** Of a card's memory, at most: what its driver keeps while nobody computes on it. */
export const driverBytes = (bytes: number) => Math.min(2 ** 30, bytes / 20)

/**
 * Why a worker that performs these has no memory for one more now; undefined where it has. Who is alone may take all
 * that there is, unless it says how much of the GPU it needs and others than our runs have that.
 */
export function whyNoRoom(needs: Load, offer: Offer, live: readonly Load[], cardFree?: number): string | undefined {
  if (needs.alone && live.length > 0)
    return 'it found no room on the GPU, which others had a part of, and is taken again once it is alone here'
  if (live.some(({ alone }) => alone)) return 'a run is at work here that found no room on the GPU beside others'
  const taken = live.reduce((sum, each) => sum + (each.memoryBytes ?? 0), 0)
  if (live.length > 0 && taken + (needs.memoryBytes ?? 0) > offer.memoryBytes)
    return 'the runs at work here leave too little memory for it'
  const asked = needs.gpuMemory
  const left = gpuLeft(offer, live, asked === undefined ? undefined : cardFree)
  if (left === undefined || (asked === undefined && live.length === 0)) return undefined
  const share = gpuShare(needs, offer)
  // Who asks for a whole card gets it though its driver keeps some.
  if (share <= left + (live.length === 0 ? driverBytes(offer.gpuMemory!) : 0) && share <= offer.gpuMemory!)
    return undefined
  const wanted = asked === undefined ? `its share of ${gibibytes(share)}` : gibibytes(share)
  return `its GPU has ${gibibytes(left)} of ${gibibytes(offer.gpuMemory!)} free, and the run needs ${wanted}`
}
