import type { Static, TObject } from 'typebox'
import type { ImageShape } from '../../data/dataset.ts'
import type { Tensor, Tensor4D, Variable } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import type { Ability } from '../method.ts'

/** What a layer is; sizes in cells, the same along both axes. */
export type LayerKind =
  | { kind: 'input' } // always the first and fixed: nothing done, means taken off, Sobel filters
  | {
      kind: 'conv'
      kernel: number
      stride: number
      padding: readonly [before: number, after: number]
      groups?: number // where not every channel sees all that come in
    }
  | {
      kind: 'pool'
      pool: 'max' | 'average'
      kernel: number
      stride: number
      padding: readonly [before: number, after: number]
    }
  | { kind: 'norm' | 'relu' | 'flatten' | 'mean' | 'dense' }
  | { kind: 'dropout'; rate: number }
  | { kind: 'residual' } // a block with a shortcut: one layer here, it has no mirror

/** One layer by shape, without the batch. Its activation is the tap of its name. */
export type LayerPlan = LayerKind & { name: string; input: readonly number[]; output: readonly number[] }

/**
 * A net by shape alone. `taps` are named activations without the batch, in order: `input`, then before and after each
 * ReLU, those inside a block as `block/name`; `top` is the last.
 */
export interface NetPlan {
  taps: Record<string, readonly number[]>
  top: string
  /** In order, from the image on; a decoder mirrors them. */
  layers: readonly LayerPlan[]
  /** Shapes of all that it learns and remembers, by the names in checkpoints: weights/conv1/filter, memory/norm1/mean. */
  tensors: Record<string, readonly number[]>
  /** Learned numbers. */
  weights: number
  /** Numbers remembered beside them (running statistics), in bytes. */
  memoryBytes: number
  /** Multiply-adds of one image's forward pass. */
  multiplyAdds: number
  abilities: readonly Ability[]
}

/** A net with its weights: images in [0, 1] to named activations. */
export interface Net {
  plan: NetPlan
  weights: Record<string, Variable>
  /** Running means and variances of batch norm. */
  memory: Record<string, Variable>
  /**
   * The activations at `taps` of images [n, h, w, c]. With `training` batch norm uses the batch's statistics and
   * updates its running ones, and dropout draws from `dice` where there is any; without, the running ones.
   */
  forward(images: Tensor4D, taps: readonly string[], training: boolean, dice?: Dice): Record<string, Tensor>
}

/** A family of nets: one file in `nets/`, one line in its index. */
export interface NetFamily<Name extends string = string, P extends TObject = TObject> {
  name: Name
  title: string
  paper: string
  parameters: P
  /** Throws InvalidDefinition (pointers relative to the net's own part) where the images are too small for it. */
  plan(parameters: Static<P>, imageShape: ImageShape): NetPlan
  build(parameters: Static<P>, imageShape: ImageShape, seed: number): Net
}

/** Keeps the literal name and parameter types of a net family. */
export function defineNet<const Name extends string, P extends TObject>(family: NetFamily<Name, P>) {
  return family
}

/** The tap before the ReLU that a tap comes from: dropout and flattening are looked through. The tap itself without. */
export function beforeRelu({ layers }: NetPlan, tap: string): string {
  let at = layers.findIndex(({ name }) => name === tap)
  while (at > 0 && ['dropout', 'flatten'].includes(layers[at]!.kind)) at--
  return at > 0 && layers[at]!.kind === 'relu' ? layers[at - 1]!.name : tap
}
