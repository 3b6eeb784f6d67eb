import type { Static, TObject } from 'typebox'
import type { Corpus, ImageShape } from '../data/dataset.ts'
import type { Dice } from './dice.ts'
import type { Ability, Learner } from './method.ts'
import type { NetPlan } from './nets/net.ts'

/** What an evaluation measures. `untrained` builds the same learner as it was before its first step; dispose it. */
export interface Subject {
  learner: Learner
  untrained(): Learner
  corpus: Corpus
}

export interface Table {
  name: string
  columns: readonly string[]
  rows: readonly (readonly (string | number | null)[])[]
}

export interface Picture {
  name: string
  type: 'image/png' | 'image/svg+xml'
  bytes: Uint8Array
}

/** What an evaluation found: named scores (in [0, 1] where they are accuracies), tables, pictures. */
export interface Findings {
  scores: Record<string, number>
  tables?: readonly Table[]
  pictures?: readonly Picture[]
}

/** A measurement: one file in `evaluations/`, one line in its index. */
export interface Evaluation<Name extends string = string, P extends TObject = TObject> {
  name: Name
  title: string
  paper: string
  parameters: P
  /** Of net, method and dataset together. */
  requires: readonly Ability[]
  /** What the parameters demand of the rest, beyond their schema; pointers are relative to the evaluation's own part. */
  check?(
    parameters: Static<P>,
    world: { size: number; testSize: number; classes: number; batchSize: number },
  ): { pointer: string; detail: string }[]
  /** What it holds at its highest, in bytes; next to nothing where absent. `taps` are those of the net. */
  memoryBytes?(
    parameters: Static<P>,
    world: { images: number; imageShape: ImageShape; taps: NetPlan['taps']; dimension: number },
  ): number
  /** `onProgress` is called with the share done in [0, 1]; `stop` makes it throw its reason at the next boundary. */
  measure(
    subject: Subject,
    parameters: Static<P>,
    dice: Dice,
    watch: { onProgress(share: number): void; stop: AbortSignal },
  ): Promise<Findings>
}

/** Keeps the literal name and parameter types of an evaluation. */
export function defineEvaluation<const Name extends string, P extends TObject>(evaluation: Evaluation<Name, P>) {
  return evaluation
}
