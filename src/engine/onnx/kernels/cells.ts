import type { Graph } from '../graph.ts'
import type { Layout, Quad } from '../layout.ts'
import type { Pooling } from './pooling.ts'

/**
 * Puts back what each cell of a pooling window holds, to where the cell lies in the images, and sums where windows
 * overlap: `cells` are as large as the pooled images, row by row of the window. Cells whose places differ by whole
 * strides fall on the same lattice of every stride-th pixel and are summed there, shifted; the lattices are then
 * woven together.
 */
export function placeCells(
  graph: Graph,
  cells: readonly string[],
  pooled: Quad,
  shape: Quad,
  { kernel, strides, pads }: Pooling,
  layout: Layout,
): string {
  const [high, wide] = strides
  // Steps of the lattice: enough for every window's last cell.
  const rows = pooled[1] + Math.ceil(kernel[0] / high) - 1
  const columns = pooled[2] + Math.ceil(kernel[1] / wide) - 1
  const lattice: Quad = [pooled[0], rows, columns, pooled[3]]
  const lattices: (string | undefined)[] = []
  for (let i = 0; i < high; i++)
    for (let j = 0; j < wide; j++) {
      let sum = ''
      for (let y = i; y < kernel[0]; y += high)
        for (let x = j; x < kernel[1]; x += wide) {
          const [down, right] = [(y - i) / high, (x - j) / wide]
          const sides = [down, right, rows - pooled[1] - down, columns - pooled[2] - right] as const
          sum = addShifted(graph, sum, cells[y * kernel[1] + x]!, pooled, sides, layout)
        }
      lattices.push(sum || undefined)
    }
  const woven = weave(graph, lattices, lattice, strides, layout)
  const whole: Quad = [pooled[0], rows * high, columns * wide, pooled[3]]
  const before = [-pads[0], -pads[1]] as const
  const after = [shape[1] + pads[0] - whole[1], shape[2] + pads[1] - whole[2]] as const
  return shifted(graph, woven, whole, before, after, layout)
}

/** What has been summed, '' at first, and images with rows and columns of zeros around them. */
function addShifted(
  graph: Graph,
  sum: string,
  name: string,
  shape: Quad,
  [top, left, bottom, right]: readonly [number, number, number, number],
  layout: Layout,
): string {
  const still = top + left + bottom + right === 0
  if (layout === 'planes' || (still && !sum)) {
    const made = shifted(graph, name, shape, [top, left], [bottom, right], layout)
    return sum ? graph.emit('Add', [sum, made]) : made
  }
  // A convolution of each channel with 1 moves and adds in one pass.
  const ones = graph.constant('float32', [shape[3], 1, 1, 1], new Float32Array(shape[3]).fill(1))
  const window = { kernel_shape: [1, 1], strides: [1, 1], dilations: [1, 1], group: shape[3] }
  const attributes = { ...window, pads: [top, left, bottom, right] }
  return graph.emit('Conv', [name, ones, ...(sum ? ['', sum] : [])], attributes, 'com.microsoft.nchwc')
}

/** Images with rows and columns of zeros around them, or cut where a number is negative. */
function shifted(
  graph: Graph,
  name: string,
  shape: Quad,
  [top, left]: readonly [number, number],
  [bottom, right]: readonly [number, number],
  layout: Layout,
): string {
  if ([top, left, bottom, right].every((side) => side === 0)) return name
  if (layout === 'planes') return graph.emit('Pad', [name, graph.integers([0, 0, top, left, 0, 0, bottom, right])])
  const sides = graph.integers([0, 0, top, left, 0, 0, 0, bottom, right, 0])
  const made = graph.emit('Pad', [graph.reshape(name, graph.folded(shape)), sides])
  return graph.reshape(made, graph.declared([shape[0], shape[1] + top + bottom, shape[2] + left + right, shape[3]]))
}

/** Lattices [n, rows, columns, c], one for each place (i, j) in a stride, to [n, rows high, columns wide, c]. */
function weave(
  graph: Graph,
  lattices: readonly (string | undefined)[],
  lattice: Quad,
  [high, wide]: readonly [number, number],
  layout: Layout,
): string {
  if (high === 1 && wide === 1) return lattices[0]!
  const [n, rows, columns, channels] = lattice
  const b = layout === 'blocks' ? graph.blockSize : 1
  const lines = (n * channels * rows) / b
  const zeros = () => graph.emit('Expand', [graph.scalar(0), graph.integers([lines, columns, 1, b])])
  const seen = lattices.map((name) => (name === undefined ? zeros() : graph.reshape(name, [lines, columns, 1, b])))
  const woven = Array.from({ length: high }, (_, i) => {
    const row = seen.slice(i * wide, (i + 1) * wide)
    const made = wide === 1 ? row[0]! : graph.emit('Concat', row, { axis: 2 })
    return graph.reshape(made, [lines, 1, columns * wide * b])
  })
  const made = high === 1 ? woven[0]! : graph.emit('Concat', woven, { axis: 1 })
  return graph.reshape(made, [n, channels, rows * high, columns * wide])
}
