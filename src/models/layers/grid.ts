import { type Tensor2D, type Tensor4D, tf } from '../../tf.ts'

/** Where `cells` parts of `size` places begin and end. */
const cut = (size: number, cells: number) => Array.from({ length: cells + 1 }, (_, i) => Math.round((size * i) / cells))

/** Maps [n, h, w, k] summed in each cell of a grid: [n, grid x grid x k], cells row by row. */
export function sumInGrid(maps: Tensor4D, grid: number): Tensor2D {
  const [n, height, width, channels] = maps.shape
  const [rows, columns] = [cut(height, grid), cut(width, grid)]
  const sums: Tensor2D[] = []
  for (let i = 0; i < grid; i++)
    for (let j = 0; j < grid; j++) {
      const [top, left] = [rows[i]!, columns[j]!]
      const sides: [number, number, number, number] = [n, rows[i + 1]! - top, columns[j + 1]! - left, channels]
      sums.push(tf.sum(tf.slice(maps, [0, top, left, 0], sides), [1, 2]))
    }
  return tf.concat(sums, 1)
}
