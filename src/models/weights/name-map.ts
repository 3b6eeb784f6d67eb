import { type Static, Type } from 'typebox'
import type { Fault } from '../../errors.ts'
import { type Arrangement, arrangedShape, type Layout } from './layout.ts'

const target = Type.String({
  pattern: '^(weights|memory)/.+$',
  maxLength: 300,
  description: "Our name as checkpoints have it, for example 'weights/conv1/filter' or 'memory/norm1/mean'.",
})

const rule = Type.Object(
  {
    to: target,
    layout: Type.Optional(
      Type.Union([Type.Literal('as-is'), Type.Literal('filter'), Type.Literal('matrix')], {
        description:
          'How its numbers lie: filter [out, in, height, width], matrix [out, in], or as ours do. By the number of axes where absent: 4, 2, others.',
      }),
    ),
    cells: Type.Optional(
      Type.Array(Type.Integer({ minimum: 1, maximum: 10_000 }), {
        minItems: 2,
        maxItems: 2,
        description: 'Of a matrix that reads flattened images: their height and width. Elsewhere channels come first.',
      }),
    ),
  },
  { additionalProperties: false },
)

/** How the tensors of a file are called here. */
export const nameMapSchema = Type.Object(
  {
    strip: Type.Optional(
      Type.String({ minLength: 1, maxLength: 300, description: "What is cut off in front of names, as in 'module.'." }),
    ),
    tensors: Type.Record(Type.String(), Type.Union([target, rule]), {
      description: 'From the name in the file to ours. A * stands for any text, and for the same text in our name.',
    }),
    ignore: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 300 }), {
        maxItems: 10_000,
        description: 'Names in the file that are left out; a * stands for any text.',
      }),
    ),
    optional: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 300 }), {
        maxItems: 10_000,
        description: 'Names of the map, as it has them, that the file may lack: a head.',
      }),
    ),
  },
  { additionalProperties: false, description: 'A name map.' },
)

export type NameMap = Static<typeof nameMapSchema>

/** A tensor in a file, by its header. */
export interface ForeignTensor {
  dtype: string
  shape: readonly number[]
}

/** One tensor of a file as it is taken: its name there and here, and its shape here. */
export interface Mapped extends Arrangement {
  from: string
  to: string
  shape: readonly number[]
}

/** Types of numbers that become 32-bit floats. */
export const readableTypes = ['F32', 'F16', 'BF16', 'F64'] as const

interface Rule {
  to: string
  layout?: Layout
  cells?: number[]
}

/** What a map says of a name, written out. */
export function ruleOf(given: NameMap['tensors'][string]): Rule {
  return (typeof given === 'string' ? { to: given } : given) as Rule
}

interface Pattern {
  written: string
  matches: RegExp
  rule: Rule
  /** Whether a tensor was found for it. */
  used: boolean
}

function matching(pattern: string): RegExp {
  const parts = pattern.split('*').map((part) => part.replace(/[\\^$.+?()[\]{}|]/g, '\\$&'))
  return new RegExp(`^${parts.join('(.+)')}$`)
}

/** Exact names come before those with a *, else the order is that of the map. */
function patternsOf(map: NameMap): Pattern[] {
  const all = Object.entries(map.tensors).map(([written, given]) => ({
    written,
    matches: matching(written),
    rule: ruleOf(given),
    used: false,
  }))
  const exact = ({ written }: Pattern) => (written.includes('*') ? 1 : 0)
  return all.sort((a, b) => exact(a) - exact(b))
}

/** How a tensor of so many axes lies where the map does not say. */
export function byAxes(axes: number): Layout {
  return axes === 4 ? 'filter' : axes === 2 ? 'matrix' : 'as-is'
}

function mapOne(from: string, { dtype, shape }: ForeignTensor, { rule }: Pattern, to: string): Mapped | string {
  if (!(readableTypes as readonly string[]).includes(dtype))
    return `its numbers are ${dtype}; ${readableTypes.join(', ')} can be read`
  const layout = rule.layout ?? byAxes(shape.length)
  const arrangement = { layout, cells: rule.cells as Arrangement['cells'] }
  const ours = arrangedShape(arrangement, shape)
  if (ours) return { from, to, shape: ours, layout, ...(rule.cells ? { cells: arrangement.cells } : {}) }
  if (layout === 'filter') return `has the shape [${shape}] where a filter has four axes`
  const inputs = rule.cells ? ` whose inputs are a multiple of ${rule.cells.join(' x ')}` : ''
  return `has the shape [${shape}] where a matrix [out, in]${inputs} is wanted`
}

/**
 * What a map makes of the tensors in a file's header: each under our name. Every fault is told: tensors the map does
 * not know, tensors the file lacks, shapes that do not fit, and two tensors for one name.
 */
export function applyMap(map: NameMap, file: Record<string, ForeignTensor>): { mapped: Mapped[]; faults: Fault[] } {
  const patterns = patternsOf(map)
  const ignored = (map.ignore ?? []).map(matching)
  const faults: Fault[] = []
  const mapped = new Map<string, Mapped>()
  const fault = (name: string, detail: string) =>
    faults.push({ pointer: `/tensors/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`, detail })
  for (const [from, tensor] of Object.entries(file)) {
    const name = map.strip && from.startsWith(map.strip) ? from.slice(map.strip.length) : from
    if (ignored.some((pattern) => pattern.test(name))) continue
    const pattern = patterns.find(({ matches }) => matches.test(name))
    if (!pattern) {
      fault(name, 'is in the file and not in the map: map it, or name it under ignore')
      continue
    }
    pattern.used = true
    const found = pattern.matches.exec(name)!.slice(1)
    const to = pattern.rule.to.replace(/\*/g, () => found.shift() ?? '*')
    const taken = mapOne(from, tensor, pattern, to)
    if (typeof taken === 'string') fault(name, taken)
    else if (mapped.has(to)) fault(name, `becomes '${to}', and so does '${mapped.get(to)!.from}'`)
    else mapped.set(to, taken)
  }
  for (const { written, used } of patterns)
    if (!used && !map.optional?.includes(written)) fault(written, 'is in the map and not in the file')
  return { mapped: [...mapped.values()], faults }
}
