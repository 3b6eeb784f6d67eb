import { type Tensor, type Tensor3D, type Tensor4D, tf } from '../../tf.ts'
import { around, pool, type Window } from './conv.ts'

type Quad = [images: number, height: number, width: number, channels: number]

/** Lower than any number that is looked at. */
const lowest = -3.4028234663852886e38

/** Each of y at the first largest cell of its window of x, sums where windows share one; 0 elsewhere. */
function sumAtSwitches(y: Tensor, x: Tensor4D, pooling: Window): Tensor4D {
  const { kernel, stride } = pooling
  // A max pool sends its gradient there: every engine has that as one pass.
  const inputs = { dy: y, input: x, output: pool(x, 'max', pooling) }
  const attributes = { filterSize: kernel, strides: stride, pad: around(pooling) }
  return tf.engine().runKernel('MaxPoolGrad', inputs, attributes as never) as Tensor4D
}

/** x [outer, side, inner] between `filling`, or cut, so that its side has `size` cells and begins `before` cells later. */
function frame(x: Tensor3D, before: number, size: number, filling: number): Tensor3D {
  const [outer, side, inner] = x.shape
  const after = size - before - side
  const filled = (cells: number) => (cells > 0 ? [tf.fill([outer, cells, inner], filling) as Tensor3D] : [])
  const parts = [...filled(before), x, ...filled(after)]
  const whole = parts.length > 1 ? tf.concat(parts, 1) : x
  return after < 0 ? tf.slice(whole, [0, 0, 0], [outer, size, inner]) : whole
}

/** Something done to the rows of images [n, h, w, c], then to their columns, both as [outer, side, inner]. */
function alongBoth(x: Tensor4D, change: (sides: Tensor3D, axis: 0 | 1) => Tensor3D): Tensor4D {
  const [n, height, width, c] = x.shape
  const rows = change(tf.reshape(x, [n, height, width * c]), 0)
  const high = rows.shape[1]
  const columns = change(tf.reshape(rows, [n * high, width, c]), 1)
  return tf.reshape(columns, [n, high, columns.shape[1], c])
}

/** Windows side by side: `windows` of them, `kernel` cells each, from every `stride`th cell on. */
function spreadWindows(x: Tensor3D, windows: number, { kernel, stride, padding }: Window, filling: number): Tensor3D {
  const [outer, , inner] = x.shape
  const wide = frame(x, padding[0], windows * stride + kernel, filling)
  const cells = Array.from({ length: kernel }, (_, cell) => {
    const from = tf.slice(wide, [0, cell, 0], [outer, windows * stride, inner])
    return tf.slice(tf.reshape(from, [outer, windows, stride * inner]), [0, 0, 0], [outer, windows, inner])
  })
  return tf.reshape(tf.concat(cells, 2), [outer, windows * kernel, inner])
}

/** Whether windows neither share cells nor reach over the border. */
function apart({ kernel, stride, padding }: Window): boolean {
  return stride === kernel && padding[0] === 0 && padding[1] === 0
}

/** What of g [n, h, w, c] lies at the first largest cell of each window of x, [n, windows, windows, c]. */
function readSwitches(g: Tensor4D, x: Tensor4D, pooling: Window, [n, height, width, c]: Quad): Tensor4D {
  const { kernel } = pooling
  if (!apart(pooling)) {
    const spread = (images: Tensor4D, filling: number) =>
      alongBoth(images, (sides, axis) => spreadWindows(sides, axis === 0 ? height : width, pooling, filling))
    const alone = { kernel, stride: kernel, padding: [0, 0] } as const
    return readSwitches(spread(g, 0), spread(x, lowest), alone, [n, height, width, c])
  }
  const chosen = tf.mul(g, sumAtSwitches(tf.fill([n, height, width, c], 1), x, pooling)) as Tensor4D
  const covered = alongBoth(chosen, (sides, axis) => frame(sides, 0, (axis === 0 ? height : width) * kernel, 0))
  return tf.sum(tf.reshape(covered, [n, height, kernel, width, kernel, c]), [2, 4]) as Tensor4D
}

/**
 * Unpools y [n, windows, windows, c] by the switches of a max pool over x [n, h, w, c] (Zeiler and Fergus, 2014; Zhang,
 * Lee and Lee, 2016): each number goes where its window's maximum was, the first of equals. Where windows overlap and
 * share a cell it gets their mean; cells that are no maximum get 0. No gradient goes through the switches.
 */
export function unpoolKnown(y: Tensor4D, x: Tensor4D, pooling: Window): Tensor4D {
  const layer = tf.customGrad((...inputs) => {
    const [input, save] = inputs as unknown as [Tensor4D, (tensors: Tensor[]) => void]
    const shape = input.shape as Quad
    const sums = sumAtSwitches(input, x, pooling)
    // One where there are none, so that 0 stays 0.
    const shares = apart(pooling) ? [] : [tf.maximum(sumAtSwitches(tf.fill(shape, 1), x, pooling), 1)]
    save(shares)
    const gradFunc = (g: Tensor, [share]: Tensor[]) =>
      readSwitches((share ? tf.div(g, share) : g) as Tensor4D, x, pooling, shape)
    return { value: shares[0] ? tf.div(sums, shares[0]) : sums, gradFunc }
  })
  return layer(y) as Tensor4D
}

/**
 * Unpools y [n, windows, windows, c] to [n, height, width, c] by one fixed cell of each window, that at kernel / 2
 * rounded down: the centre of 3 x 3, the last cell of 2 x 2. The others get 0.
 */
export function unpoolFixed(y: Tensor4D, [height, width]: readonly [number, number], pooling: Window): Tensor4D {
  const { kernel, stride, padding } = pooling
  const [n, rows, columns, c] = y.shape
  const place = Math.floor(kernel / 2) - padding[0]
  const cell = place % stride
  const only = tf.tensor(
    Array.from({ length: stride * stride }, (_, i) => (i === cell * stride + cell ? 1 : 0)),
    [1, 1, stride, 1, stride, 1],
  )
  const placed = tf.mul(tf.reshape(y, [n, rows, 1, columns, 1, c]), only)
  const image = tf.reshape(placed, [n, rows * stride, columns * stride, c]) as Tensor4D
  return alongBoth(image, (sides, axis) => frame(sides, place - cell, axis === 0 ? height : width, 0))
}
