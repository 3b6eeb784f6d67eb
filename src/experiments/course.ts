import { InvalidDefinition } from '../errors.ts'
import type { Stage } from '../models/method.ts'
import { epochsOf } from '../models/training/stages.ts'
import type { ChosenUnits } from './chosen.ts'
import type { Definition } from './definition.ts'

/**
 * The stages of a definition's training: those of its method, or one without a name over all epochs. None where the
 * method takes no gradient step, whatever the definition says of epochs. `start` is the method whose checkpoint of the
 * same net the weights come from, where they do.
 */
export function courseOf({ training }: Definition, { method }: ChosenUnits, start?: string): readonly Stage[] {
  const { unit, parameters } = method
  if (unit.fitted) return []
  const { epochs } = training
  return unit.stages?.(parameters, start === undefined ? { epochs } : { epochs, start }) ?? [{ name: '', epochs }]
}

/**
 * Throws InvalidDefinition where the stages of a method and the epochs of the definition do not go together. A start
 * may spare some of the epochs.
 */
export function checkCourse(definition: Definition, units: ChosenUnits, start?: string): void {
  const { unit } = units.method
  if (unit.fitted) return
  const stages = courseOf(definition, units, start)
  const wrong = stages.find((stage) => !Number.isInteger(stage.epochs) || stage.epochs < 0)
  if (wrong) throw new RangeError(`stage '${wrong.name}' of method '${unit.name}' has ${wrong.epochs} epochs`)
  const { epochs } = definition.training
  const sum = epochsOf(stages)
  if (sum === epochs || (start !== undefined && sum > 0 && sum < epochs)) return
  const each = stages.map((stage) => `${stage.epochs} (${stage.name})`).join(' + ')
  const detail = `is ${epochs}; the stages of '${unit.name}' take ${each} = ${sum}, so it should be ${sum}`
  throw new InvalidDefinition([{ pointer: '/training/epochs', detail }])
}
