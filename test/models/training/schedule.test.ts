import { describe, expect, it } from 'vitest'
import { schedules } from '../../../src/models/training/schedule.ts'

const full = { learningRate: 0.5, weightDecay: 0.2 }
const at = (step: number) => ({ step, steps: 100, stepsPerEpoch: 10 })

describe('the learning rate', () => {
  it('rises evenly over the steps of warm-up, in every schedule', () => {
    for (const factor of [
      (step: number) => schedules.constant.factor({ warmUpSteps: 4 }, at(step), full),
      (step: number) => schedules.cosine.factor({ warmUpSteps: 4 }, at(step), full),
      (step: number) => schedules.step.factor({ warmUpSteps: 4, epochs: [5], factor: 0.1 }, at(step), full),
    ])
      expect([0, 1, 2, 3, 4].map(factor)).toEqual([0.25, 0.5, 0.75, 1, 1])
  })

  it('goes down half a cosine', () => {
    const factor = (step: number) => schedules.cosine.factor({ warmUpSteps: 20 }, at(step), full)
    expect(factor(20)).toBe(1)
    expect(factor(60)).toBeCloseTo(0.5, 12)
    expect(factor(99)).toBeGreaterThan(0)
    expect(factor(99)).toBeLessThan(0.001)
  })

  it('drops at the end of the named epochs', () => {
    const factor = (step: number) =>
      schedules.step.factor({ warmUpSteps: 0, epochs: [2, 5], factor: 0.1 }, at(step), full)
    expect([0, 19, 20, 49].map(factor)).toEqual([1, 1, 0.1, 0.1])
    expect(factor(50)).toBeCloseTo(0.01, 12)
  })

  it('decays with each step after the warm-up as Bottou has it', () => {
    const factor = (step: number) => schedules.decay.factor({ warmUpSteps: 2 }, at(step), full)
    expect([0, 1, 2].map(factor)).toEqual([0.5, 1, 1])
    // 1 + 0.5 x 0.2 x 30 = 4
    expect(factor(32)).toBeCloseTo(0.5, 12)
    expect(schedules.decay.factor({ warmUpSteps: 0 }, at(80), full)).toBeCloseTo(1 / 3, 12)
  })
})
