import { folds } from '../graph/folds.ts'
import { type Lowering, maps } from '../graph/maps.ts'
import { operations } from './kernels/index.ts'
import { products } from './kernels/products.ts'

/** By the kind of operation: all that is ever recorded. */
export const lowerings: Readonly<Record<string, Lowering>> = {
  ...maps,
  ...folds,
  ...products,
  ...operations,
}
