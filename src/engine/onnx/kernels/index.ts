import type { Trace } from '../../recording/trace.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'
import { activation } from './activations.ts'
import { arrangement } from './arrangement.ts'
import { binary } from './binary.ts'
import { convolution } from './convolution.ts'
import { creation } from './creation.ts'
import { fusion } from './fused.ts'
import { imaging } from './images.ts'
import { normalisation } from './normalisation.ts'
import { padding } from './padding.ts'
import { pooling } from './pooling.ts'
import { product } from './products.ts'
import { reduction } from './reductions.ts'
import { selection } from './selection.ts'
import { unary } from './unary.ts'
import { view } from './views.ts'

const groups: readonly KernelGroup[] = [
  activation,
  arrangement,
  binary,
  convolution,
  creation,
  fusion,
  imaging,
  normalisation,
  padding,
  pooling,
  product,
  reduction,
  selection,
  unary,
  view,
]

/** Every kernel that the engine has, by the name that tfjs gives it. */
export const traces: Record<string, Trace> = Object.assign({}, ...groups.map((group) => group.traces))

/** How each kind of operation is written as ONNX nodes. */
export const lowerings: Record<string, Lowering> = Object.assign({}, ...groups.map((group) => group.lowerings))
