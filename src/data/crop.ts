import { type Static, Type } from 'typebox'
import type { Dice } from './dice.ts'

/** A rectangle in pixels. */
export interface Box {
  top: number
  left: number
  height: number
  width: number
}

const share = (value: number, description: string) =>
  Type.Number({ exclusiveMinimum: 0, maximum: 1, default: value, description })

const stretch = (value: number) =>
  Type.Number({
    minimum: 1,
    maximum: 10,
    default: value,
    description: 'Largest ratio of one side to the other, either way round; evenly in its logarithm.',
  })

/** A part of an image that is cut out and brought to the size of the view. */
export const cropSchema = Type.Object(
  {
    smallest: share(0.08, 'Smallest share of the area.'),
    largest: share(1, 'Largest share of the area.'),
    ratio: stretch(4 / 3),
  },
  { additionalProperties: false, description: 'A random part, cut out and resized (random resized crop).' },
)

/** A rectangle that goes black. */
export const eraseSchema = Type.Object(
  {
    probability: Type.Number({ minimum: 0, maximum: 1, default: 0.5, description: 'Of being applied.' }),
    smallest: share(0.02, 'Smallest share of the area.'),
    largest: share(0.33, 'Largest share of the area.'),
    ratio: stretch(10 / 3),
  },
  { additionalProperties: false, description: 'A random rectangle goes black (random erasing).' },
)

export type Crop = Static<typeof cropSchema>
export type Erase = Static<typeof eraseSchema>

/** Boxes drawn until one fits. */
const tries = 10

/** The largest box in the middle whose sides differ no more than they may. */
function middle(height: number, width: number, ratio: number): Box {
  const box = {
    height: Math.min(height, Math.round(width * ratio)),
    width: Math.min(width, Math.round(height * ratio)),
  }
  return { ...box, top: (height - box.height) >> 1, left: (width - box.width) >> 1 }
}

/** A box of a random area, ratio and place within [height, width]; the middle where none of ten fits. */
export function drawBox(height: number, width: number, wanted: Crop, dice: Dice): Box {
  const { smallest, largest, ratio } = wanted
  for (let i = 0; i < tries; i++) {
    const area = height * width * (smallest + (largest - smallest) * dice.uniform())
    const aspect = Math.exp((2 * dice.uniform() - 1) * Math.log(ratio))
    const box = { height: Math.round(Math.sqrt(area / aspect)), width: Math.round(Math.sqrt(area * aspect)) }
    if (box.height < 1 || box.width < 1 || box.height > height || box.width > width) continue
    return { ...box, top: dice.below(height - box.height + 1), left: dice.below(width - box.width + 1) }
  }
  return middle(height, width, ratio)
}
