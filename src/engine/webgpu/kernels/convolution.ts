import type { Arg, Finish, Node, Nodes } from '../../graph/node.ts'
import { type Quad, quad, type Window } from '../../graph/window.ts'
import type { GpuSpecial } from '../shader.ts'
import { productShaders } from './product.ts'
import { strided } from './side.ts'
import type { Product } from './sums.ts'
import { pixelsByCells } from './unfolding.ts'

/** Whether each pixel sees only itself. */
export function seesItself({ kernel, strides, pads }: Window): boolean {
  return [...kernel, ...strides].every((side) => side === 1) && pads.every((pad) => pad === 0)
}

/** What is read by its strides as [rows, columns]; the right side of a product of a single batch. */
function rightOf({ node, offset }: Arg, inner: number, columns: number) {
  return strided({ node, offset }, { batch: 0, across: 1, inner: columns }, { batch: 1, across: columns, inner })
}

/** Pixels of images [n, h, w, c], one row each. */
function pixels(x: Node, [images, height, width, channels]: Quad) {
  const rows = images * height * width
  return strided(
    { node: x, offset: 0 },
    { batch: 0, across: channels, inner: 1 },
    { batch: 1, across: rows, inner: channels },
  )
}

/** The filter in the order of its shape: that of others has to be copied first. */
export function inOrder(nodes: Nodes, filter: Arg, shape: readonly number[]): Arg {
  let step = 1
  const strides = [...shape].reverse().map((side) => {
    const own = step
    step *= side
    return own
  })
  strides.reverse()
  const plain = filter.offset === 0 && strides.every((stride, i) => shape[i] === 1 || stride === filter.strides[i])
  if (plain) return filter
  return { node: nodes.map('copy', [filter], shape, 'float32'), strides, offset: 0 }
}

/** A node of a convolution's kind, whose results others may be finished by. */
export function convolutionNode(
  nodes: Nodes,
  shape: readonly number[],
  inputs: readonly Node[],
  product: Product,
  rowPlace?: string,
): Node {
  const finish: Finish = {}
  const special: GpuSpecial = {
    name: 'convolution',
    inputs: inputs.map((node) => ({ node })),
    strided: false,
    finish,
    shaders: (self, facts) => productShaders(self, product, { finish, ...(rowPlace ? { rowPlace } : {}) }, facts),
  }
  return nodes.special(shape, 'float32', special)
}

/** Images x [n, h, w, c] convolved with a filter read as [kh, kw, c, out]: rows are pixels, columns channels. */
export function convolve(nodes: Nodes, x: Node, filter: Arg, window: Window, shape: readonly number[]): Node {
  const [images, height, width, columns] = quad(shape)
  const channels = x.shape[3]!
  const own = inOrder(nodes, filter, [...window.kernel, channels, columns])
  const inner = window.kernel[0] * window.kernel[1] * channels
  const product: Product = {
    label: `convolution [${x.shape}] [${window.kernel}]`,
    element: 'f32',
    ...{ batch: 1, rows: images * height * width, inner, columns },
    left: seesItself(window) ? pixels(x, quad(x.shape)) : pixelsByCells(x, quad(shape), window),
    right: rightOf(own, inner, columns),
  }
  return convolutionNode(nodes, shape, [x, own.node], product)
}
