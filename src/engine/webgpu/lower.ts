import { folds } from '../graph/folds.ts'
import { type Lowering, maps } from '../graph/maps.ts'
import { extremes } from './kernels/extremes.ts'
import { operations } from './kernels/index.ts'
import { placesOfProducts } from './kernels/largest-column.ts'
import { products } from './kernels/products.ts'

/** By the kind of operation: all that is ever recorded. */
export const lowerings: Readonly<Record<string, Lowering>> = {
  ...maps,
  ...folds,
  ...products,
  ...operations,
  ArgMax: placesOfProducts('max', extremes.ArgMax!),
  ArgMin: placesOfProducts('min', extremes.ArgMin!),
}
