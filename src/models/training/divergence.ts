import type { RawBatch } from '../../data/loader.ts'
import { Diverged } from '../../errors.ts'
import type { Checkpoint } from '../checkpoint.ts'
import { firstLost } from '../math/finite.ts'
import { least } from './loss-scale.ts'

/** The image of a batch that holds something that is no number, if one does. */
function brokenImage({ views, shape, indices }: RawBatch): number | undefined {
  const size = shape[1] * shape[2] * shape[3]
  const lost = views.map(firstLost).find((place) => place >= 0)
  return lost === undefined ? undefined : indices[Math.floor(lost / size)]
}

/** The loss cannot be lowered further: all steps from here on would be skipped. */
function refuseLastOverflow(step: number, { lossScale, overflow }: Record<string, number>): void {
  if (!overflow || lossScale! > least) return
  throw new Diverged(
    `the gradients of step ${step} are no numbers in half precision, though the loss is not scaled up any more`,
    'train with training.precision "single", which reaches beyond 65504, or lower the learning rate',
  )
}

/**
 * Throws Diverged where the loss or the gradient of a step is no number, with the likely reason; in half precision only
 * where no lower scale of the loss is left to try.
 */
export function refuseDivergence(step: number, values: Record<string, number>, batch: RawBatch): void {
  refuseLastOverflow(step, values)
  const wrong = ['loss', 'gradientNorm'].find((name) => !Number.isFinite(values[name]))
  if (!wrong) return
  const what = wrong === 'loss' ? 'loss' : 'norm of the gradient'
  const image = brokenImage(batch)
  if (image !== undefined)
    throw new Diverged(
      `the ${what} of step ${step} is ${values[wrong]}, since training image ${image} holds values that are no numbers`,
      'correct the dataset',
    )
  const cures = ['lower the learning rate', 'add warm-up steps', 'raise the temperature']
  if ('lossScale' in values) cures.push('train with training.precision "single", which reaches beyond 65504')
  throw new Diverged(
    `the ${what} of step ${step} is ${values[wrong]}`,
    `${cures.slice(0, -1).join(', ')}, or ${cures.at(-1)}`,
  )
}

/** The same for what a survey has measured. */
export function refuseLostSurvey(epoch: number, metrics: Record<string, number>): void {
  for (const [name, value] of Object.entries(metrics))
    if (!Number.isFinite(value))
      throw new Diverged(
        `the survey before epoch ${epoch} finds ${value} as '${name}'`,
        'lower the learning rate, or look for images that are no numbers',
      )
}

/** The same for everything that a fitted method has found, which no loss has watched over. */
export function refuseLostState({ tensors }: Checkpoint): void {
  for (const [name, { data }] of Object.entries(tensors))
    if (!(data instanceof BigInt64Array) && firstLost(data) >= 0)
      throw new Diverged(
        `'${name}' holds values that are no numbers`,
        'look for images that are no numbers, or that are all the same',
      )
}
