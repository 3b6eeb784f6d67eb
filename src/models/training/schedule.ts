import { type Static, type TObject, Type } from 'typebox'

/** Where in a training, or in one of its stages, a step is. */
export interface Moment {
  /** Steps taken before. */
  step: number
  steps: number
  stepsPerEpoch: number
}

/** How the learning rate goes over a training. */
export interface Schedule<Name extends string = string, P extends TObject = TObject> {
  name: Name
  title: string
  parameters: P
  /** The factor on the learning rate at a step, for an optimiser's full rate and weight decay. */
  factor(parameters: Static<P>, moment: Moment, optimizer: { learningRate: number; weightDecay: number }): number
}

function defineSchedule<const Name extends string, P extends TObject>(schedule: Schedule<Name, P>) {
  return schedule
}

const warmUpSteps = Type.Integer({
  minimum: 0,
  maximum: 1_000_000_000,
  default: 0,
  description: 'Steps over which the learning rate rises evenly from near 0 to its full value.',
})

function warmUp(steps: number, { step }: Moment): number {
  return step < steps ? (step + 1) / steps : 1
}

const constant = defineSchedule({
  name: 'constant',
  title: 'The same learning rate throughout',
  parameters: Type.Object({ warmUpSteps }, { additionalProperties: false }),
  factor: (parameters, moment) => warmUp(parameters.warmUpSteps, moment),
})

const cosine = defineSchedule({
  name: 'cosine',
  title: 'From the full learning rate to zero along half a cosine',
  parameters: Type.Object({ warmUpSteps }, { additionalProperties: false }),
  factor(parameters, moment) {
    if (moment.step < parameters.warmUpSteps) return warmUp(parameters.warmUpSteps, moment)
    const share = (moment.step - parameters.warmUpSteps) / Math.max(1, moment.steps - parameters.warmUpSteps)
    return (1 + Math.cos(Math.PI * Math.min(1, share))) / 2
  },
})

const step = defineSchedule({
  name: 'step',
  title: 'Lower by a factor at given epochs',
  parameters: Type.Object(
    {
      epochs: Type.Array(Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'Epochs finished before.' }), {
        minItems: 1,
        maxItems: 100,
        uniqueItems: true,
        description: 'When the learning rate is lowered: after so many epochs.',
      }),
      factor: Type.Number({
        exclusiveMinimum: 0,
        maximum: 1,
        default: 0.1,
        description: 'By what it is multiplied each time.',
      }),
      warmUpSteps,
    },
    { additionalProperties: false },
  ),
  factor(parameters, moment) {
    const epoch = Math.floor(moment.step / moment.stepsPerEpoch)
    const passed = parameters.epochs.filter((at) => epoch >= at).length
    return warmUp(parameters.warmUpSteps, moment) * parameters.factor ** passed
  },
})

const decay = defineSchedule({
  name: 'decay',
  title: 'Down a little with each step: by the root of 1 + learning rate x weight decay x steps (Bottou, 2012)',
  parameters: Type.Object({ warmUpSteps }, { additionalProperties: false }),
  factor(parameters, moment, { learningRate, weightDecay }) {
    const steps = Math.max(0, moment.step - parameters.warmUpSteps)
    return warmUp(parameters.warmUpSteps, moment) / Math.sqrt(1 + learningRate * weightDecay * steps)
  },
})

/** Every schedule of the learning rate, by name. */
export const schedules = { constant, cosine, step, decay }
