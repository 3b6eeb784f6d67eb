import { adam, adamw } from './adam.ts'
import { lars } from './lars.ts'
import { sgd } from './sgd.ts'

export type { Optimizer, Stepper } from './stepper.ts'

/** Every optimiser, by name. */
export const optimizers = { sgd, lars, adam, adamw }
