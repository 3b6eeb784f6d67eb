import { isDeepStrictEqual } from 'node:util'
import { Damaged, type Fault, InvalidDefinition } from '../errors.ts'
import type { Learner, Method } from '../models/method.ts'
import { methods } from '../models/methods/index.ts'
import { nets } from '../models/nets/index.ts'
import type { NetFamily, NetPlan } from '../models/nets/net.ts'
import { putTensor, shapesOf } from '../models/state.ts'
import type { Definition } from './definition.ts'
import type { From, Origin } from './from.ts'
import { asWritten, type Schema, withDefaults } from './schema.ts'
import type { Work } from './work.ts'

/** What becomes of a source's tensors and of the net's, by their names in checkpoints. */
export interface StartPlan {
  /** Taken over by the net. */
  taken: string[]
  /** The net's that are drawn anew, since their layers were not asked for. */
  drawn: string[]
  /** Outside of the net: taken where the method has the like of that shape, else left out. */
  offered: string[]
  /** Of the source, left out in any case. */
  skipped: string[]
}

const sources = ['checkpoint', 'run', 'weights'] as const

/** Faults of naming none of the sources, or several. */
export function checkFrom(from: From): Fault[] {
  const named = sources.filter((source) => from[source] !== undefined)
  if (named.length === 1) return []
  const found = named.length === 0 ? 'names no source' : `names ${named.join(' and ')}`
  return [{ pointer: '/from', detail: `${found}: one of ${sources.join(', ')} would be right` }]
}

const layerOf = (name: string) => name.slice(name.indexOf('/') + 1)

/** Whether a tensor belongs to one of the layers; a block's layers are below its own name. */
function within(name: string, layers: readonly string[] | undefined): boolean {
  return !layers || layers.some((layer) => layerOf(name).startsWith(`${layer}/`))
}

const classifies = (name: string) => {
  const method = (methods as unknown as Record<string, Method | undefined>)[name]
  return method?.abilities.includes('classifier') ?? false
}

/** Whether a tensor outside of the net is worth a try. */
function isOffered(name: string, from: From, made: Origin['made'], method: string): boolean {
  if (from.parts !== 'weights') return from.parts === 'all'
  if (!name.startsWith('weights/')) return false
  return made?.method === method || (classifies(method) && (made === undefined || classifies(made.method)))
}

/** So many differences are told one by one. */
const mostTold = 20

function differences(wanted: readonly [string, readonly number[]][], origin: Origin): Fault[] {
  const faults = wanted.flatMap(([name, shape]) => {
    const found = origin.tensors[name]
    if (found && isDeepStrictEqual([...found], [...shape])) return []
    const has = found ? `has ${name} as [${found}]` : `has no ${name}`
    return [{ pointer: '/from', detail: `${origin.title} ${has}; this net needs [${shape}]` }]
  })
  if (faults.length <= mostTold) return faults
  const detail = `and ${faults.length - mostTold} tensors more do not fit; there are: ${Object.keys(origin.tensors).slice(0, mostTold).join(', ')}, ...`
  return [...faults.slice(0, mostTold), { pointer: '/from', detail }]
}

function pinFaults({ sha256, method }: From, origin: Origin, made: string | undefined): Fault[] {
  const faults: Fault[] = []
  if (sha256 !== undefined && sha256 !== origin.sha256)
    faults.push({ pointer: '/from/sha256', detail: `${origin.title} has the sha256 ${origin.sha256}` })
  if (method !== undefined && method !== made)
    faults.push({
      pointer: '/from/method',
      detail: made
        ? `${origin.title} was trained by '${made}'`
        : `${origin.title} is not known to be trained by a method on this net: leave it out`,
    })
  return faults
}

/** Whether two definitions of a net are one: an older one may lack parameters, whose defaults keep its meaning. */
function sameNet(made: unknown, net: Definition['net']): boolean {
  const { name, ...own } = made as { name?: string }
  const family = nets[net.name] as NetFamily
  const filled = withDefaults(asWritten(family.parameters as Schema), own) as object
  return name === net.name && isDeepStrictEqual({ name, ...filled }, { ...net })
}

/** Whether all that the source's method learned on the same net is taken, its head for these classes included. */
function holdsAll({ from, net }: Definition & { from: From }, { made, tensors }: Origin, classes: number): boolean {
  if (!made || from.layers || from.parts === 'net' || !sameNet(made.net, net)) return false
  return !classifies(made.method) || tensors['weights/head/bias']?.[0] === classes
}

/**
 * What a definition takes from a source, told by names and shapes alone, and the definition with the source pinned.
 * Throws InvalidDefinition with every tensor of the net that the source lacks or has in another shape.
 */
export function planStart(
  definition: Definition & { from: From },
  net: NetPlan,
  origin: Origin,
  classes: number,
): { from: From; start: StartPlan } {
  const { from } = definition
  const own = Object.entries(net.tensors)
  const wanted = own.filter(([name]) => within(name, from.layers))
  const unknown = (from.layers ?? []).filter((layer) => !own.some(([name]) => within(name, [layer])))
  const made = holdsAll(definition, origin, classes) ? origin.made?.method : undefined
  const faults = [
    ...unknown.map((layer) => ({
      pointer: '/from/layers',
      detail: `the net has no layer '${layer}' with weights; there are: ${[...new Set(own.map(([name]) => layerOf(name).replace(/\/[^/]*$/, '')))].join(', ')}`,
    })),
    ...differences(wanted, origin),
    ...pinFaults(from, origin, made),
  ]
  if (faults.length > 0) throw new InvalidDefinition(faults)
  const outside = Object.keys(origin.tensors).filter((name) => net.tensors[name] === undefined)
  const offered = outside.filter((name) => isOffered(name, from, origin.made, definition.method.name))
  const taken = wanted.map(([name]) => name)
  const { run: _, ...rest } = from
  return {
    from: {
      ...rest,
      ...(origin.checkpoint ? { checkpoint: origin.checkpoint } : {}),
      sha256: origin.sha256,
      ...(made ? { method: made } : {}),
    },
    start: {
      taken,
      drawn: own.flatMap(([name]) => (within(name, from.layers) ? [] : [name])),
      offered,
      skipped: Object.keys(origin.tensors).filter((name) => !taken.includes(name) && !offered.includes(name)),
    },
  }
}

const list = (names: readonly string[]) =>
  names.length > 12 ? `${names.slice(0, 12).join(', ')} and ${names.length - 12} more` : names.join(', ')

/** Puts a source's weights into a learner before its first step, and says in the log what was taken and what was not. */
export async function takeStart({ definition, units, corpus, context }: Work, learner: Learner): Promise<void> {
  const { from } = definition
  if (!from) return
  const net = units.net.unit.plan(units.net.parameters, corpus.train.imageShape)
  const origin = await context.origins.find(from)
  const { start } = planStart({ ...definition, from }, net, origin, corpus.train.classes)
  const shapes = shapesOf(learner)
  const fits = (name: string) => isDeepStrictEqual([...(shapes[name] ?? [-1])], [...origin.tensors[name]!])
  const wanted = new Set([...start.taken, ...start.offered.filter(fits)])
  const taken: string[] = []
  for await (const [name, tensor] of context.origins.read(from, (candidate) => wanted.has(candidate))) {
    putTensor(learner, name, tensor)
    taken.push(name)
  }
  const missing = [...wanted].filter((name) => !taken.includes(name))
  if (missing.length > 0)
    throw new Damaged(`${origin.title} lacks ${list(missing)}, which its header has`, 'name another source')
  const drawn = Object.keys(shapes).filter((name) => !wanted.has(name))
  const skipped = Object.keys(origin.tensors).filter((name) => !wanted.has(name))
  context.log.info(`starts from ${origin.title}: ${taken.length} tensors taken`)
  if (drawn.length > 0) context.log.info(`drawn or begun anew: ${list(drawn)}`)
  if (skipped.length > 0) context.log.info(`left out of the source: ${list(skipped)}`)
}
