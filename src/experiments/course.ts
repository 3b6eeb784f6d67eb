import { stepsPerEpoch } from '../data/loader.ts'
import { type Fault, InvalidDefinition } from '../errors.ts'
import type { Stage } from '../models/method.ts'
import { epochsOf, layOut } from '../models/training/stages.ts'
import type { ChosenUnits } from './chosen.ts'
import type { Definition } from './definition.ts'

/**
 * The stages of a definition's training: those of its method, or one without a name over all epochs. None where the
 * method takes no gradient step, whatever the definition says of epochs. Where the weights come from a checkpoint of
 * the same net, the method is told whose it is.
 */
export function courseOf({ training, from }: Definition, { method }: ChosenUnits): readonly Stage[] {
  const { unit, parameters } = method
  if (unit.fitted) return []
  const { epochs } = training
  const start = from?.method
  return unit.stages?.(parameters, start === undefined ? { epochs } : { epochs, start }) ?? [{ name: '', epochs }]
}

/**
 * Throws InvalidDefinition where the stages of a method and the epochs of the definition do not go together. A start
 * may spare some of the epochs.
 */
export function checkCourse(definition: Definition, units: ChosenUnits): void {
  const { unit } = units.method
  if (unit.fitted) return
  const stages = courseOf(definition, units)
  const wrong = stages.find((stage) => !Number.isInteger(stage.epochs) || stage.epochs < 0)
  if (wrong) throw new RangeError(`stage '${wrong.name}' of method '${unit.name}' has ${wrong.epochs} epochs`)
  const { epochs } = definition.training
  const start = definition.from?.method
  const sum = epochsOf(stages)
  if (sum === epochs || (start !== undefined && sum > 0 && sum < epochs)) return
  const each = stages.map((stage) => `${stage.epochs} (${stage.name})`).join(' + ')
  const detail = `is ${epochs}; the stages of '${unit.name}' take ${each} = ${sum}, so it should be ${sum}`
  throw new InvalidDefinition([{ pointer: '/training/epochs', detail }])
}

/** What the images and the epochs there are do not allow of the steps that a definition asks for. */
export function stepFaults({ training }: Definition, size: number, stages: readonly Stage[]): Fault[] {
  const { batchSize, accumulate, optimizer, schedule } = training
  const faults: Fault[] = []
  const images = `there are ${size} training images, so it should be at most`
  if (batchSize > size) faults.push({ pointer: '/training/batchSize', detail: `is ${batchSize}; ${images} ${size}` })
  else if (batchSize * accumulate > size)
    faults.push({
      pointer: '/training/accumulate',
      detail: `is ${accumulate}, of ${batchSize} images each; ${images} ${Math.floor(size / batchSize)}`,
    })
  const perEpoch = stepsPerEpoch(size, batchSize * accumulate)
  const shortest = layOut(stages, perEpoch).sort((a, b) => a.steps - b.steps)[0]
  if (shortest && schedule.warmUpSteps > shortest.steps) {
    const { stage, steps } = shortest
    const what = stage.name ? `stage '${stage.name}'` : 'the training'
    const detail = `is ${schedule.warmUpSteps}; ${what} has ${steps} steps, so it should be at most ${steps}`
    faults.push({ pointer: '/training/schedule/warmUpSteps', detail })
  }
  if (schedule.name === 'decay' && optimizer.weightDecay === 0)
    faults.push({
      pointer: '/training/schedule/name',
      detail: `'decay' goes by the weight decay, which is 0; 'constant' would be the same`,
    })
  return faults
}
