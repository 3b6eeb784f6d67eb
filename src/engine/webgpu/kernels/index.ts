import type { Lowering } from '../../graph/maps.ts'
import { arrangement } from './arrangement.ts'
import { elementwise } from './elementwise.ts'
import { gathering } from './gathering.ts'
import { pools } from './pools.ts'
import { scattering } from './scattering.ts'
import { segments } from './segments.ts'

/** Operations with shaders of their own, and those of numbers that the other engines do not take, by kind. */
export const operations: Readonly<Record<string, Lowering>> = {
  ...arrangement,
  ...elementwise,
  ...gathering,
  ...pools,
  ...scattering,
  ...segments,
}
