import { Type } from 'typebox'
import { type Fault, InvalidDefinition } from '../errors.ts'

/** What every dataset can be asked for: the first so many images. */
export const limitParameters = {
  limit: Type.Optional(
    Type.Integer({ minimum: 1, description: 'Use the first so many training images; all of them where absent.' }),
  ),
  testLimit: Type.Optional(
    Type.Integer({ minimum: 1, description: 'Use the first so many test images; all of them where absent.' }),
  ),
}

export interface SplitSizes {
  train: number
  test: number
}

/** The images to use. Throws InvalidDefinition, pointers relative to the dataset, where more are asked than there are. */
export function applyLimits(size: SplitSizes, wanted: { limit?: number; testLimit?: number }): SplitSizes {
  const faults: Fault[] = []
  const limit = (pointer: string, value: number | undefined, most: number, kind: string) => {
    if (value !== undefined && value > most)
      faults.push({ pointer, detail: `is ${value}; there are ${most} ${kind} images` })
    return value ?? most
  }
  const train = limit('/limit', wanted.limit, size.train, 'training')
  const test = limit('/testLimit', wanted.testLimit, size.test, 'test')
  if (faults.length > 0) throw new InvalidDefinition(faults, 'the dataset')
  return { train, test }
}
