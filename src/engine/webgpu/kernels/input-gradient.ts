import type { Arg, Node, Nodes } from '../../graph/node.ts'
import { quad, type Window } from '../../graph/window.ts'
import { convolutionNode, inOrder } from './convolution.ts'
import type { Side } from './side.ts'
import type { Product } from './sums.ts'
import { unsigned } from './unfolding.ts'

/**
 * Along one axis, pixels whose places differ by the stride see the same cells of the filter: a phase. Its pixels are
 * first, first + stride, ...; pixel number i sees cells cell, cell + cellStep, ... in the results' places begin + i,
 * begin + i - back, ...
 */
interface Phase {
  first: number
  pixels: number
  cell: number
  cells: number
  begin: number
}

interface Axis {
  stride: number
  phases: Phase[]
  cellStep: number
  back: number
}

const commonDivisor = (a: number, b: number): number => (b === 0 ? a : commonDivisor(b, a % b))

function axisOf(size: number, kernel: number, stride: number, dilation: number, pad: number): Axis {
  const divisor = commonDivisor(stride, dilation)
  const cellStep = stride / divisor
  const phases = Array.from({ length: stride }, (_, phase): Phase => {
    const first = (((phase - pad) % stride) + stride) % stride
    const pixels = Math.max(0, Math.ceil((size - first) / stride))
    let cell = 0
    while (cell < cellStep && (cell * dilation - phase) % stride !== 0) cell++
    const cells = cell < cellStep ? Math.max(0, Math.ceil((kernel - cell) / cellStep)) : 0
    return { first, pixels, cell, cells, begin: (first + pad - cell * dilation) / stride }
  })
  return { stride, phases, cellStep, back: (cellStep * dilation) / stride }
}

/** The number that belongs to a phase, of a variable; a constant where all have the same. */
function choose(phase: string, numbers: readonly number[]): string {
  const [first, ...others] = numbers
  if (others.every((number) => number === first)) return unsigned(first!)
  return others.reduce((so, number, i) => `select(${so}, ${unsigned(number)}, ${phase} == ${i + 1}u)`, unsigned(first!))
}

/** Numbers of both axes by phase, as WGSL of `batch`, which counts phases. */
function phasesOf(axes: readonly [Axis, Axis]) {
  const across = axes[1].stride
  const index = [`(batch / ${across}u)`, `(batch % ${across}u)`] as const
  return (axis: 0 | 1, of: keyof Phase) =>
    choose(
      index[axis],
      axes[axis].phases.map((phase) => (Number.isInteger(phase[of]) ? phase[of] : 0)),
    )
}

const most = ({ phases }: Axis, of: 'pixels' | 'cells') => Math.max(...phases.map((phase) => phase[of]))

/** Of a division by one of few small numbers: by a constant where there is but one. */
function divided(value: string, by: string): { quotient: string; rest: string } {
  return { quotient: `(${value}) / max(${by}, 1u)`, rest: `(${value}) % max(${by}, 1u)` }
}

/**
 * dx of a convolution: rows are pixels of x, inner places are cells of the filter and channels of dy. With strides each
 * phase is a product of its own, one batch of all.
 */
export function inputGradient(
  nodes: Nodes,
  dy: Node,
  filter: Arg,
  filterShape: readonly number[],
  window: Window,
  shape: readonly number[],
): Node {
  const { kernel, strides, dilations, pads } = window
  const [images, height, width, columns] = quad(shape)
  const own = inOrder(nodes, filter, filterShape)
  const axes = [
    axisOf(height, kernel[0], strides[0], dilations[0], pads[0]),
    axisOf(width, kernel[1], strides[1], dilations[1], pads[1]),
  ] as const
  const of = phasesOf(axes)
  const channels = dy.shape[3]!
  const [left, right] = [gradientsByCells(dy, axes, of), cellsByChannels(own.node, filterShape, axes, of)]
  const phases = strides[0] * strides[1]
  const product: Product = {
    label: `input gradient [${dy.shape}] [${window.kernel}]`,
    element: 'f32',
    batch: phases,
    rows: images * most(axes[0], 'pixels') * most(axes[1], 'pixels'),
    inner: Math.max(1, most(axes[0], 'cells') * most(axes[1], 'cells')) * channels,
    columns,
    left,
    right,
    ...(phases === 1
      ? {}
      : {
          rowsOf: `return ${images}u * ${of(0, 'pixels')} * ${of(1, 'pixels')};`,
          innerOf: `return ${channels}u * ${of(0, 'cells')} * ${of(1, 'cells')};`,
        }),
  }
  const x = divided('row', of(1, 'pixels'))
  const y = divided('above', of(0, 'pixels'))
  const rowPlace = `let above = ${x.quotient};
let x = (${x.rest}) * ${strides[1]}u + ${of(1, 'first')};
let y = (${y.rest}) * ${strides[0]}u + ${of(0, 'first')};
return (((${y.quotient}) * ${height}u + y) * ${width}u + x) * ${columns}u;`
  return convolutionNode(nodes, shape, [dy, own.node], product, phases === 1 ? undefined : rowPlace)
}

type Of = ReturnType<typeof phasesOf>

/** Rows are pixels of a phase, inner places the cells that they see, of dy [n, oh, ow, c]. */
function gradientsByCells(dy: Node, axes: readonly [Axis, Axis], of: Of): Side {
  const [, height, width, channels] = quad(dy.shape)
  const four = channels % 4 === 0 ? 'inner' : undefined
  const deep = channels / (four ? 4 : 1)
  return {
    ...{ node: dy, four, next: 'inner' },
    settle: (name, place) => {
      const x = divided(place, of(1, 'pixels'))
      const y = divided(`${name}_t`, of(0, 'pixels'))
      return `let ${name}_t = ${x.quotient};
let ${name}_x = ${x.rest} + ${of(1, 'begin')};
let ${name}_y = ${y.rest} + ${of(0, 'begin')};
let ${name}_at = ((${y.quotient} * ${height}u + ${name}_y) * ${width}u + ${name}_x) * ${deep}u;`
    },
    step: (name, place) => {
      const cell = divided(`${name}_t`, of(1, 'cells'))
      return `let ${name}_p = ${place};
let ${name}_t = ${name}_p / ${deep}u;
let ${name}_y = (${cell.quotient}) * ${axes[0].back}u;
let ${name}_x = (${cell.rest}) * ${axes[1].back}u;
let ${name}_at = ${name}_p % ${deep}u - (${name}_y * ${width}u + ${name}_x) * ${deep}u;`
    },
    find: (across, inner) => ({
      place: `${across}_at + ${inner}_at`,
      valid: `${across}_y - ${inner}_y < ${height}u && ${across}_x - ${inner}_x < ${width}u`,
    }),
  }
}

/** Inner places are the cells that a phase sees and the results' channels, columns the images' channels. */
function cellsByChannels(filter: Node, shape: readonly number[], axes: readonly [Axis, Axis], of: Of): Side {
  const [, broad, inputs, outputs] = quad(shape)
  const four = outputs % 4 === 0 ? 'inner' : undefined
  const deep = outputs / (four ? 4 : 1)
  return {
    ...{ node: filter, four, next: 'inner' },
    settle: (name, place) => `let ${name}_at = ${place} * ${deep}u;`,
    step: (name, place) => {
      const cell = divided(`${name}_t`, of(1, 'cells'))
      return `let ${name}_p = ${place};
let ${name}_t = ${name}_p / ${deep}u;
let ${name}_y = (${cell.quotient}) * ${axes[0].cellStep}u + ${of(0, 'cell')};
let ${name}_x = (${cell.rest}) * ${axes[1].cellStep}u + ${of(1, 'cell')};
let ${name}_at = (${name}_y * ${broad}u + ${name}_x) * ${inputs * deep}u + ${name}_p % ${deep}u;`
    },
    find: (across, inner) => ({ place: `${across}_at + ${inner}_at` }),
  }
}
