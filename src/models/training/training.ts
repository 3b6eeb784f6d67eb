import { type Static, type TObject, Type } from 'typebox'
import { optimizers } from './optimizer.ts'
import { schedules } from './schedule.ts'

interface Unit<Name extends string = string, P extends TObject = TObject> {
  name: Name
  title: string
  parameters: P
}

function choice<const Name extends string, P extends TObject>(unit: Unit<Name, P>) {
  return Type.Object(
    { name: Type.Literal(unit.name, { description: unit.title }), ...(unit.parameters.properties as P['properties']) },
    { additionalProperties: false, title: unit.title },
  )
}

/** How a method is trained. */
export const trainingSchema = Type.Object(
  {
    epochs: Type.Integer({
      minimum: 1,
      maximum: 1_000_000,
      default: 8,
      description: 'Passes over the training images.',
    }),
    batchSize: Type.Integer({ minimum: 1, maximum: 65_536, default: 128, description: 'Images a batch.' }),
    accumulate: Type.Integer({
      minimum: 1,
      maximum: 4096,
      default: 1,
      description: 'Batches a step: their gradients are averaged.',
    }),
    optimizer: Type.Union(
      [choice(optimizers.sgd), choice(optimizers.lars), choice(optimizers.adam), choice(optimizers.adamw)],
      { description: 'How the weights follow the gradient.', default: { name: 'sgd' } },
    ),
    precision: Type.Union([Type.Literal('single'), Type.Literal('half')], {
      default: 'single',
      description:
        'How activations and their gradients are stored; half: in 16 bits, on a GPU, with a loss scale that adapts. Sums and weights are single in any case.',
    }),
    clipNorm: Type.Number({
      minimum: 0,
      maximum: 1_000_000,
      default: 0,
      description: 'A gradient that is longer, over all weights together, is shortened to this; 0: none is.',
    }),
    averaging: Type.Number({
      minimum: 0,
      exclusiveMaximum: 1,
      default: 0,
      description:
        'What a moving average of the weights keeps of itself at each step; what is measured and exported in the end is the average. 0: there is none.',
    }),
    schedule: Type.Union(
      [choice(schedules.constant), choice(schedules.cosine), choice(schedules.step), choice(schedules.decay)],
      { description: 'How the learning rate goes over the training.', default: { name: 'constant' } },
    ),
    checkpointEverySteps: Type.Integer({
      minimum: 1,
      maximum: 1_000_000_000,
      default: 100,
      description: 'Steps between two checkpoints; the last step makes one in any case.',
    }),
  },
  { additionalProperties: false, description: 'How the method is trained.' },
)

export type TrainingDefinition = Static<typeof trainingSchema>
