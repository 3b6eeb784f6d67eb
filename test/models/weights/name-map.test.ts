import { describe, expect, it } from 'vitest'
import { arrange, arrangedShape, disarrange, foreignShape } from '../../../src/models/weights/layout.ts'
import { applyMap } from '../../../src/models/weights/name-map.ts'

const counting = (size: number) => Float32Array.from({ length: size }, (_, i) => i)

describe('layouts of other programs', () => {
  it('turn a filter [out, in, height, width] into [height, width, in, out]', () => {
    const [out, from, height, width] = [2, 3, 4, 5]
    const ours = arrange({ layout: 'filter' }, [out, from, height, width], counting(120))
    expect(arrangedShape({ layout: 'filter' }, [out, from, height, width])).toEqual([4, 5, 3, 2])
    for (let o = 0; o < out; o++)
      for (let i = 0; i < from; i++)
        for (let y = 0; y < height; y++)
          for (let x = 0; x < width; x++)
            expect(ours[((y * width + x) * from + i) * out + o]).toBe(((o * from + i) * height + y) * width + x)
  })

  it('turn a matrix that reads flattened images, channels first, into one that reads them channels last', () => {
    const [out, channels, height, width] = [2, 3, 2, 2]
    const arrangement = { layout: 'matrix', cells: [height, width] } as const
    const ours = arrange(arrangement, [out, channels * height * width], counting(24))
    expect(arrangedShape(arrangement, [out, 12])).toEqual([12, 2])
    for (let o = 0; o < out; o++)
      for (let c = 0; c < channels; c++)
        for (let y = 0; y < height; y++)
          for (let x = 0; x < width; x++)
            expect(ours[((y * width + x) * channels + c) * out + o]).toBe(((o * channels + c) * height + y) * width + x)
  })

  it.each([
    [{ layout: 'filter' } as const, [2, 3, 4, 5]],
    [{ layout: 'matrix' } as const, [7, 5]],
    [{ layout: 'matrix', cells: [2, 3] } as const, [4, 30]],
    [{ layout: 'as-is' } as const, [6]],
  ])('come back as they were: %j', (arrangement, shape) => {
    const data = counting(shape.reduce((a, b) => a * b))
    const ours = arrangedShape(arrangement, shape)!
    expect(foreignShape(arrangement, ours)).toEqual(shape)
    expect(disarrange(arrangement, ours, arrange(arrangement, shape, data))).toEqual(data)
  })
})

describe('a name map', () => {
  const f32 = (...shape: number[]) => ({ dtype: 'F32', shape })

  it('names every tensor, by its own name or by a pattern, without what is stripped', () => {
    const { mapped, faults } = applyMap(
      {
        strip: 'module.',
        tensors: {
          'conv*.weight': 'weights/conv*/filter',
          'conv1.weight': 'weights/first/filter',
          'fc.weight': { to: 'weights/fc/weights', cells: [2, 2] },
        },
        ignore: ['*.num_batches_tracked'],
      },
      {
        'module.conv1.weight': f32(8, 3, 5, 5),
        'module.conv2.weight': { dtype: 'BF16', shape: [4, 8, 3, 3] },
        'fc.weight': f32(10, 16),
        'module.bn.num_batches_tracked': { dtype: 'I64', shape: [] },
      },
    )
    expect(faults).toEqual([])
    expect(mapped.map(({ from, to, shape }) => [from, to, shape])).toEqual([
      ['module.conv1.weight', 'weights/first/filter', [5, 5, 3, 8]],
      ['module.conv2.weight', 'weights/conv2/filter', [3, 3, 8, 4]],
      ['fc.weight', 'weights/fc/weights', [16, 10]],
    ])
  })

  it('tells every tensor that is unknown, missing, misshapen, of another type, or named twice', () => {
    const { faults } = applyMap(
      {
        tensors: {
          a: 'weights/a',
          b: 'weights/a',
          absent: 'weights/absent',
          flat: { to: 'weights/flat', layout: 'filter' },
          fc: { to: 'weights/fc', cells: [3, 3] },
          whole: 'weights/whole',
        },
      },
      { a: f32(1), b: f32(1), flat: f32(4, 4), fc: f32(2, 10), whole: { dtype: 'I32', shape: [1] }, 'x/y': f32(1) },
    )
    expect(Object.fromEntries(faults.map(({ pointer, detail }) => [pointer, detail]))).toEqual({
      '/tensors/b': "becomes 'weights/a', and so does 'a'",
      '/tensors/flat': 'has the shape [4,4] where a filter has four axes',
      '/tensors/fc': 'has the shape [2,10] where a matrix [out, in] whose inputs are a multiple of 3 x 3 is wanted',
      '/tensors/whole': 'its numbers are I32; F32, F16, BF16, F64 can be read',
      '/tensors/x~1y': 'is in the file and not in the map: map it, or name it under ignore',
      '/tensors/absent': 'is in the map and not in the file',
    })
  })
})
