import type { Tensor, Variable } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import type { LayerKind } from './net.ts'

export type Shape = readonly number[]

/** What a weight or a running statistic is at first. */
export interface Start {
  shape: Shape
  draw(dice: Dice): Float32Array
}

/** How a net is run. */
export interface Pass {
  training: boolean
  dice?: Dice | undefined
}

/**
 * One layer, described before anything is allocated: what it makes of a shape, the weights it has then, and how it is
 * run with them. A net is a list of these; `planSequence` and `buildSequence` do the rest.
 */
export interface Layer {
  name: string
  is: LayerKind
  /** The shape after it, without the batch; a side below 1 means that nothing is left. */
  output(input: Shape): Shape
  /** Learned, each under the layer's name and its own. */
  weights?(input: Shape): Record<string, Start>
  /** Remembered beside them, likewise. */
  memory?(input: Shape): Record<string, Start>
  /** Of one image, by what goes in and what comes out. */
  multiplyAdds?(input: Shape, output: Shape): number
  /** `own` are its weights and memory by their own names; with `relu` it does that too, where it `bears` one. */
  apply(x: Tensor, own: Record<string, Variable>, pass: Pass, relu: boolean): Tensor
  /** It is cheaper together with a relu that follows. */
  bearsRelu?: true
  /** Two ways through, whose ends it adds; `apply` is not called. */
  branches?: readonly [body: readonly Layer[], shortcut: readonly Layer[]]
  /** What its dice are called, where that is not its name. */
  dice?: string | number
}
