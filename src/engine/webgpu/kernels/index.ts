import type { Lowering } from '../../graph/maps.ts'
import { arrangement } from './arrangement.ts'
import { sums } from './einsum.ts'
import { elementwise } from './elementwise.ts'
import { extremes } from './extremes.ts'
import { gathering } from './gathering.ts'
import { imaging } from './images.ts'
import { largest } from './largest.ts'
import { pools } from './pools.ts'
import { resizes } from './resizing.ts'
import { runs } from './running.ts'
import { scattering } from './scattering.ts'
import { segments } from './segments.ts'

/** Operations with shaders of their own, and those of numbers that the other engines do not take, by kind. */
export const operations: Readonly<Record<string, Lowering>> = {
  ...arrangement,
  ...elementwise,
  ...extremes,
  ...gathering,
  ...imaging,
  ...largest,
  ...pools,
  ...resizes,
  ...runs,
  ...scattering,
  ...segments,
  ...sums,
}
