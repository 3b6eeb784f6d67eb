import { describe, expect, it } from 'vitest'
import { InvalidDefinition } from '../../src/errors.ts'
import { chosenUnits } from '../../src/experiments/chosen.ts'
import { checkCourse, courseOf, stepFaults } from '../../src/experiments/course.ts'
import { type Definition, parseDefinition } from '../../src/experiments/definition.ts'
import type { Method } from '../../src/models/method.ts'
import { tiny } from '../fixtures/tiny.ts'

const definition = parseDefinition({ ...tiny, training: { ...tiny.training, epochs: 6 } })

/** The units of the definition, with a method that has other stages. */
function unitsWith(own: Pick<Method, 'stages'> | Pick<Method, 'fitted'>) {
  const units = chosenUnits(definition)
  return { ...units, method: { ...units.method, unit: { ...units.method.unit, ...own } } }
}

const phased = unitsWith({
  stages: (_parameters, { start }) => [
    { name: 'classifier', epochs: start === 'supervised' ? 0 : 2 },
    { name: 'decoder', epochs: 4 },
  ],
})

/** The definition as it starts from a checkpoint of a method. */
const startedFrom = (method: string): Definition => ({
  ...definition,
  from: { run: '00000000-0000-0000-0000-000000000000', parts: 'weights', method } as Definition['from'],
})

function faultsOf(units: typeof phased, start?: string) {
  try {
    checkCourse(start === undefined ? definition : startedFrom(start), units)
    return []
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidDefinition)
    return (error as InvalidDefinition).faults
  }
}

describe('the course of a training', () => {
  it('is one stage over all epochs, the stages of the method, or nothing where it is fitted', () => {
    expect(courseOf(definition, chosenUnits(definition))).toEqual([{ name: '', epochs: 6 }])
    expect(courseOf(definition, phased).map(({ epochs }) => epochs)).toEqual([2, 4])
    expect(courseOf(startedFrom('supervised'), phased).map(({ epochs }) => epochs)).toEqual([0, 4])
    expect(courseOf(definition, unitsWith({ fitted: true }))).toEqual([])
  })

  it('has stages that add up to the epochs, of which a start may spare some', () => {
    expect(faultsOf(phased)).toEqual([])
    expect(faultsOf(phased, 'supervised')).toEqual([])
    const short = unitsWith({
      stages: () => [
        { name: 'one', epochs: 2 },
        { name: 'two', epochs: 3 },
      ],
    })
    expect(faultsOf(short)).toEqual([
      {
        pointer: '/training/epochs',
        detail: "is 6; the stages of 'npid' take 2 (one) + 3 (two) = 5, so it should be 5",
      },
    ])
    expect(faultsOf(unitsWith({ fitted: true }))).toEqual([])
    expect(() => faultsOf(unitsWith({ stages: () => [{ name: 'half', epochs: 0.5 }] }))).toThrow()
  })

  it('has a warm-up that fits into its shortest stage', () => {
    const { training } = definition
    const warm = { ...definition, training: { ...training, schedule: { name: 'constant' as const, warmUpSteps: 30 } } }
    // 320 images in batches of 32: 10 steps an epoch.
    expect(stepFaults(warm, 320, courseOf(definition, phased))).toEqual([
      {
        pointer: '/training/schedule/warmUpSteps',
        detail: "is 30; stage 'classifier' has 20 steps, so it should be at most 20",
      },
    ])
    expect(stepFaults(warm, 320, courseOf(startedFrom('supervised'), phased))).toEqual([])
  })
})
