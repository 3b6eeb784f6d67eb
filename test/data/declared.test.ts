import { describe, expect, it } from 'vitest'
import { declared } from '../../src/data/declared.ts'
import { NotFound } from '../../src/errors.ts'
import { memoryBytes } from '../../src/experiments/memory-context.ts'

const imagenet = {
  of: 'ImageNet',
  images: 1_281_167,
  testImages: 50_000,
  classes: 1000,
  height: 224,
  width: 200,
  channels: 3,
} as const

describe('declared images', () => {
  it('are described as they were declared, from nothing', async () => {
    expect(await declared.describe(imagenet, memoryBytes())).toEqual({
      imageShape: [224, 200, 3],
      classes: 1000,
      size: { train: 1_281_167, test: 50_000 },
    })
  })

  it('cannot be opened: it says which they are, and the cure', async () => {
    const error = await declared.open(imagenet, memoryBytes()).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(NotFound)
    expect((error as NotFound).message).toMatch(/can be planned, not run \(ImageNet\)/)
    expect((error as NotFound).cure).toMatch(/add the images/)
  })
})
