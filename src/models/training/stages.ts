import type { Stage } from '../method.ts'

/** A stage in steps of the whole training. */
export interface Part {
  stage: Stage
  /** Steps taken before it begins, and those that it takes. */
  first: number
  steps: number
}

/** Epochs of all stages together. */
export function epochsOf(stages: readonly Stage[]): number {
  return stages.reduce((sum, { epochs }) => sum + epochs, 0)
}

/** Where each stage lies; those of no epochs are left out. */
export function layOut(stages: readonly Stage[], stepsPerEpoch: number): Part[] {
  let first = 0
  const parts: Part[] = []
  for (const stage of stages) {
    const steps = stage.epochs * stepsPerEpoch
    if (steps > 0) parts.push({ stage, first, steps })
    first += steps
  }
  return parts
}

/** The part to which the step after `step` belongs. */
export function partAt(parts: readonly Part[], step: number): Part {
  const part = parts.find(({ first, steps }) => step < first + steps)
  if (!part) throw new RangeError(`the training ends before step ${step}`)
  return part
}
