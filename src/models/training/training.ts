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
    batchSize: Type.Integer({ minimum: 1, maximum: 65_536, default: 128, description: 'Images a step.' }),
    optimizer: Type.Union([choice(optimizers.sgd)], {
      description: 'How the weights follow the gradient.',
      default: { name: 'sgd' },
    }),
    schedule: Type.Union([choice(schedules.constant), choice(schedules.cosine), choice(schedules.step)], {
      description: 'How the learning rate goes over the training.',
      default: { name: 'constant' },
    }),
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
