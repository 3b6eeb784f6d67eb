import type { Lowering } from '../../graph/maps.ts'
import { productLowerings } from '../../graph/products.ts'
import { convolve } from './convolution.ts'
import { filterGradient } from './filter-gradient.ts'
import { inputGradient } from './input-gradient.ts'
import { multiply } from './product.ts'

/** Operations that multiply, by kind. */
export const products: Readonly<Record<string, Lowering>> = productLowerings({
  ...{ multiply, convolve, inputGradient, filterGradient, wholeNumbers: true },
})
