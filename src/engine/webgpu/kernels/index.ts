import type { Lowering } from '../../graph/maps.ts'
import { elementwise } from './elementwise.ts'
import { pools } from './pools.ts'

/** Operations with shaders of their own, and those of numbers that the other engines do not take, by kind. */
export const operations: Readonly<Record<string, Lowering>> = {
  ...elementwise,
  ...pools,
}
