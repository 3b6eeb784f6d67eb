import type { DatasetSource } from '../data/dataset.ts'
import { datasets } from '../data/index.ts'
import type { Evaluation } from '../models/evaluation.ts'
import { evaluations } from '../models/evaluations/index.ts'
import type { Method } from '../models/method.ts'
import { methods } from '../models/methods/index.ts'
import { nets } from '../models/nets/index.ts'
import type { NetFamily } from '../models/nets/net.ts'
import type { Definition } from './definition.ts'

/** A unit together with the parameters that a definition gives it. */
export interface Chosen<Unit> {
  unit: Unit
  parameters: Record<string, unknown>
}

// The registries keep the parameters' types apart; here every unit is handed parameters that its own schema has
// already accepted, so the common type is enough.
function choose<Unit>(registry: Record<string, unknown>, { name, ...parameters }: { name: string }): Chosen<Unit> {
  return { unit: registry[name] as Unit, parameters }
}

/** The units that a definition names. */
export interface ChosenUnits {
  dataset: Chosen<DatasetSource>
  net: Chosen<NetFamily>
  method: Chosen<Method>
  evaluations: Chosen<Evaluation>[]
}

export function chosenUnits(definition: Definition): ChosenUnits {
  return {
    dataset: choose(datasets, definition.dataset),
    net: choose(nets, definition.net),
    method: choose(methods, definition.method),
    evaluations: definition.evaluations.map((evaluation) => choose(evaluations, evaluation)),
  }
}
