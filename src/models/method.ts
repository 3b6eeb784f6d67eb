import type { Static, TObject } from 'typebox'
import type { Augmentation } from '../data/augment.ts'
import type { Corpus, Dataset, ImageShape } from '../data/dataset.ts'
import type { Scalar, Tensor, Tensor4D, Variable } from '../tf.ts'
import type { Dice } from './dice.ts'
import type { Picture } from './evaluation.ts'
import type { Net, NetPlan } from './nets/net.ts'

export type { Augmentation } from '../data/augment.ts'

/** What a net, method or dataset offers and a method or an evaluation may require. */
export type Ability = 'labels' | 'pools' | 'embedding' | 'classifier'

/** A batch on its way into an objective: `views` are [n, h, w, c] in [0, 1], one unless the method declares more. */
export interface Batch {
  views: Tensor4D[]
  /** [n]; -1 where an image has none. */
  labels?: Int32Array
  /** Which images of the corpus, [n]. */
  indices: Int32Array
}

/** One part of a phased training, in whole epochs. The schedule and the optimiser's slots begin anew with each. */
export interface Stage {
  name: string
  epochs: number
  /** Which weights learn, by name; all where absent. The others stay as they are, bit for bit. */
  learns?: RegExp
  /** Factor on the learning rate; 1 where absent. */
  learningRate?: number
}

/** What a survey found. */
export interface Survey {
  /** Weights that it has drawn anew: the optimiser forgets its slots for them. */
  reset?: readonly string[]
  /** Told with the step at which the epoch begins. */
  metrics?: Record<string, number>
  artifacts?: readonly { name: string; type: string; bytes: Uint8Array }[]
}

/** A method at work: what is learned, what is remembered, and what is to be lowered. */
export interface Learner {
  /** Learned by gradient descent. */
  weights: Record<string, Variable>
  /** Remembered otherwise: banks, centroids, running means. Part of every checkpoint. */
  memory: Record<string, Variable | Float32Array>
  /** Exceptions for some weights: a factor on the learning rate, other momentum or weight decay. */
  groups?: readonly { weights: RegExp; learningRate?: number; momentum?: number; weightDecay?: number }[]
  /**
   * Before the first step that this process takes, with weights and memory as the steps will find them: what has to be
   * known of them beside the engine is read here.
   */
  begin?(): Promise<void>
  /** `stage` is the name of the running one, where the method has stages. */
  objective(
    batch: Batch,
    dice: Dice,
    stage?: string,
  ): { loss: Scalar; metrics?: Record<string, Scalar>; keep?: Record<string, Tensor> }
  /**
   * The rest of a step, with what `objective` kept: a bank, a momentum encoder. The batch's tensors are gone by then.
   * No number may be read: what is absorbed is computed together with the step, and comes to nothing where the loss
   * turns out to be no number.
   */
  absorb?(batch: Pick<Batch, 'indices'>, kept: Record<string, Tensor>): void
  /**
   * Before an epoch that starts anew (not when a run is resumed in its middle); what it finds goes into `memory`.
   * When `stop` is raised it may throw its reason, as long as it has changed nothing until then.
   */
  survey?(corpus: Dataset, epoch: number, dice: Dice, watch: { stop?: AbortSignal }): Promise<Survey | undefined>
  /** The order in which an epoch visits the corpus, from `memory` alone; a seeded shuffle where absent. */
  order?(epoch: number, dice: Dice): Int32Array
  /** Pictures of what was learned, once training is over: artifacts of the run. */
  pictures?(corpus: Corpus, dice: Dice, watch: { stop?: AbortSignal }): Promise<readonly Picture[]>
  /** Activations in evaluation mode at the named taps only; each has n rows. */
  encode(images: Tensor4D, taps: readonly string[]): Record<string, Tensor>
  /** The taps that `encode` knows, with their shapes without the batch. */
  taps: Record<string, readonly number[]>
  /** The tap that stands for an image where one is wanted. */
  embedding: string
  dispose(): void
}

/** What a learner is built in. */
export interface World {
  net: Net
  imageShape: ImageShape
  /** Training images. */
  size: number
  classes: number
  seed: number
}

/** What a method costs, known before anything is allocated. */
export interface MethodPlan {
  /** Learned numbers, those of the net included. */
  weights: number
  /** Multiply-adds of one image's forward pass, those of the net included. */
  multiplyAdds: number
  /** What is remembered beside the weights, in bytes, that of the net included. */
  memoryBytes: number
  /** Numbers of one image that a step makes beside the net's taps, before and after each ReLU as these. */
  activations?: number
  /** What a survey takes at its highest beside that, in bytes; nothing of it is kept. */
  surveyBytes?: number
  /** Numbers of an exported embedding. */
  dimension: number
}

/** A way of learning: one file in `methods/`, one line in its index. */
export interface Method<Name extends string = string, P extends TObject = TObject> {
  name: Name
  title: string
  paper: string
  parameters: P
  abilities: readonly Ability[]
  /** Of net and dataset together. */
  requires?: readonly Ability[]
  /** Takes no gradient step: the survey before epoch 0 is the whole training. */
  fitted?: true
  /**
   * Where the training has phases: which, adding up to the epochs that will run. `start` is the method whose checkpoint
   * of the same net the weights come from, where they do.
   */
  stages?(parameters: Static<P>, world: { epochs: number; start?: string }): readonly Stage[]
  /** What the parameters demand of the rest, beyond their schema; pointers are relative to the method's own part. */
  check?(
    parameters: Static<P>,
    world: { size: number; classes: number; batchSize: number },
  ): { pointer: string; detail: string }[]
  views(parameters: Static<P>): readonly Augmentation[]
  plan(parameters: Static<P>, world: { net: NetPlan; size: number; classes: number }): MethodPlan
  build(parameters: Static<P>, world: World): Learner
}

/** Keeps the literal name and parameter types of a method. */
export function defineMethod<const Name extends string, P extends TObject>(method: Method<Name, P>) {
  return method
}
