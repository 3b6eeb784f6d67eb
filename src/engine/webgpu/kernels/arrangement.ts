import { copyOf, type Lowering } from '../../graph/maps.ts'
import { type Arg, type Node, type Nodes, rowStrides } from '../../graph/node.ts'
import { sizeOf } from '../../recording/shape.ts'
import { numeral } from '../formulas.ts'
import { splitIndex } from '../indices.ts'
import type { Bound, Shader } from '../shader.ts'
import { eachShader, elementOf, special, type Work, widthFor } from './each.ts'

/** Rows [rows, width of the part] side by side. */
interface Part {
  node: Node
  width: number
}

/** As many parts in one shader as it may have buffers; a part that is there twice is bound twice. */
function sideBySide(nodes: Nodes, parts: readonly Part[], rows: number): Node {
  const all = parts.reduce((sum, { width }) => sum + width, 0)
  const unit = parts.every(({ width }) => width % 4 === 0) ? widthFor(all) : widthFor(1)
  const own = special(
    'concatenation',
    parts.map(({ node }) => node),
    (self, work, { buffers }) => {
      const shaders: Shader[] = []
      let first = 0
      for (let begin = 0; begin < parts.length; begin += buffers - 1) {
        const some = parts.slice(begin, begin + buffers - 1)
        shaders.push(placeParts(work, self, some, { rows, first, all, lanes: unit.lanes }))
        first += some.reduce((sum, { width }) => sum + width, 0)
      }
      return shaders
    },
  )
  return nodes.special([rows, all], parts[0]!.node.dtype, own)
}

/** Where parts go: at column `first` of `all`, in numbers. */
interface Rows {
  rows: number
  first: number
  all: number
  lanes: 1 | 4
}

function placeParts(
  work: (bound: readonly Bound[]) => Work,
  self: Node,
  parts: readonly Part[],
  { rows, first, all, lanes }: Rows,
): Shader {
  const width = parts.reduce((sum, part) => sum + part.width, 0) / lanes
  const unit = widthFor(lanes)
  const bound: Bound[] = parts.map(({ node }, p) => ({ name: `x${p}`, of: node, element: elementOf(node, unit) }))
  let begin = 0
  const choices = parts.map((part, p) => {
    const own = part.width / lanes
    const from = `x${p}[row * ${own}u + column - ${begin}u]`
    begin += own
    const copy = `y[row * ${all / lanes}u + ${first / lanes}u + column] = ${from};`
    return p === parts.length - 1 ? `{ ${copy} }` : `if (column < ${begin}u) { ${copy} }`
  })
  const code = `let row = i / ${width}u;\nlet column = i % ${width}u;\n${choices.join('\nelse ')}`
  bound.push({ name: 'y', of: self, element: elementOf(self, unit), writes: true })
  return eachShader(work(bound), rows * width, code)
}

const concat: Lowering = (operation, nodes, find) => {
  const { axis } = operation.attributes as { axis: number }
  const { shape } = operation.outputs[0]!
  const parts = operation.inputs.map((input, i) => ({
    node: find(input),
    width: sizeOf(operation.shapes[i]!.slice(axis)),
  }))
  return sideBySide(nodes, parts, sizeOf(shape.slice(0, axis)))
}

type Pairs = readonly (readonly [before: number, after: number])[]

/**
 * Each number of the result from a place of x, along each side, or what is around it. `place` says the place from that
 * in the result, as i32; below 0 and beyond the side is around.
 */
function fromPlaces(
  nodes: Nodes,
  [x, around]: readonly [Node, Node | undefined],
  seen: readonly number[],
  shape: readonly number[],
  place: (own: string, axis: number) => string,
): Node {
  const inputs = around ? [x, around] : [x]
  return nodes.special(
    shape,
    x.dtype,
    special('padding', inputs, (self, work) => {
      const { lines, places } = splitIndex('i', shape, 'p')
      const strides = rowStrides(seen)
      const moved = places.map((own, axis) => `let q${axis} = ${place(`i32(${own})`, axis)};`)
      const checks = seen.map((side, axis) => `q${axis} >= 0 && q${axis} < ${side}`)
      const at = strides.map((stride, axis) => `q${axis} * ${stride}`).join(' + ')
      const outside = around ? 'around[0]' : numeral(0, x.dtype !== 'float32')
      const code = `${[...lines, ...moved].join('\n')}
var v = ${outside};
if (${checks.join(' && ')}) { v = x[u32(${at})]; }
y[i] = v;`
      const element = elementOf(x)
      const bound: Bound[] = [
        { name: 'x', of: x, element },
        ...(around ? [{ name: 'around', of: around, element }] : []),
        { name: 'y', of: self, element, writes: true },
      ]
      return [eachShader(work(bound), sizeOf(shape), code)]
    }),
  )
}

const pad: Lowering = (operation, nodes, find) => {
  const { paddings } = operation.attributes as unknown as { paddings: Pairs }
  const [x, around] = operation.inputs.map(find) as [Node, Node | undefined]
  const { shape } = operation.outputs[0]!
  return fromPlaces(nodes, [x, around], operation.shapes[0]!, shape, (own, axis) => `${own} - ${paddings[axis]![0]}`)
}

const mirrorPad: Lowering = (operation, nodes, find) => {
  const { paddings, mode } = operation.attributes as unknown as { paddings: Pairs; mode: 'reflect' | 'symmetric' }
  const seen = operation.shapes[0]!
  const repeat = mode === 'reflect' ? 0 : 1
  const x = find(operation.inputs[0]!)
  return fromPlaces(nodes, [x, undefined], seen, operation.outputs[0]!.shape, (own, axis) => {
    const place = `${own} - ${paddings[axis]![0]}`
    const mirrored = repeat ? `select(${place}, -1 - (${place}), ${place} < 0)` : `abs(${place})`
    const last = seen[axis]! - 1
    return `select(${mirrored}, ${2 * last + repeat} - (${place}), ${place} > ${last})`
  })
}

const reverse: Lowering = (operation, nodes, find) => {
  const { axes } = operation.attributes as { axes: number[] }
  const seen = operation.shapes[0]!
  const strides = rowStrides(seen)
  const arg: Arg = {
    node: find(operation.inputs[0]!),
    strides: strides.map((stride, i) => (axes.includes(i) ? -stride : stride)),
    offset: axes.reduce((sum, axis) => sum + (seen[axis]! - 1) * strides[axis]!, 0),
  }
  return copyOf(operation, nodes, arg)
}

const stridedSlice: Lowering = (operation, nodes, find) => {
  const { from, to, steps } = operation.attributes as { from: number[]; to: number[]; steps: number[] }
  const { dtype } = operation.outputs[0]!
  const strides = rowStrides(operation.shapes[0]!)
  const sides = from.map((begin, i) => Math.max(0, Math.ceil((to[i]! - begin) / steps[i]!)))
  const arg: Arg = {
    node: find(operation.inputs[0]!),
    strides: strides.map((stride, i) => stride * steps[i]!),
    offset: from.reduce((sum, begin, i) => sum + begin * strides[i]!, 0),
  }
  return nodes.map('copy', [arg], sides, dtype)
}

/** Operations that put numbers elsewhere, by kind. */
export const arrangement: Readonly<Record<string, Lowering>> = {
  Concat: concat,
  MirrorPad: mirrorPad,
  PadV2: pad,
  Reverse: reverse,
  StridedSlice: stridedSlice,
}
