import type { Node, Nodes } from '../../graph/node.ts'
import { quad, type Window } from '../../graph/window.ts'
import type { GpuSpecial } from '../shader.ts'
import { seesItself } from './convolution.ts'
import { productShaders } from './product.ts'
import { strided } from './side.ts'
import type { Product } from './sums.ts'
import { cellsByPixels } from './unfolding.ts'

/** dW [kh, kw, c, out] of a convolution: rows are cells and channels of x, inner places pixels of all images. */
export function filterGradient(nodes: Nodes, x: Node, dy: Node, window: Window, shape: readonly number[]): Node {
  const [high, broad, channels, columns] = quad(shape)
  const [images, height, width] = quad(dy.shape)
  const [rows, inner] = [high * broad * channels, images * height * width]
  const counts = { batch: 1, inner }
  const product: Product = {
    label: `filter gradient [${x.shape}] [${window.kernel}]`,
    element: 'f32',
    ...{ batch: 1, rows, inner, columns },
    left: seesItself(window)
      ? strided({ node: x, offset: 0 }, { batch: 0, across: 1, inner: channels }, { ...counts, across: channels })
      : cellsByPixels(x, quad(dy.shape), window),
    right: strided({ node: dy, offset: 0 }, { batch: 0, across: 1, inner: columns }, { ...counts, across: columns }),
  }
  const special: GpuSpecial = {
    name: 'filter gradient',
    inputs: [{ node: x }, { node: dy }],
    strided: false,
    shaders: (self, facts) => productShaders(self, product, { finish: {} }, facts),
  }
  return nodes.special(shape, 'float32', special)
}
