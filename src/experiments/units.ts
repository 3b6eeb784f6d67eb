import type { TObject } from 'typebox'
import { datasets } from '../data/index.ts'
import { evaluations } from '../models/evaluations/index.ts'
import { methods } from '../models/methods/index.ts'
import { nets } from '../models/nets/index.ts'
import { asWritten, type Schema } from './schema.ts'

/** What can be named in a definition. */
export const unitKinds = ['methods', 'nets', 'datasets', 'evaluations'] as const
export type UnitKind = (typeof unitKinds)[number]

/** One entry of a registry, as people read it. */
export interface UnitDescription {
  name: string
  title: string
  /** Of a method, a net or an evaluation. */
  paper?: string
  /** Of a dataset. */
  source?: string
  /** JSON schema (2020-12) of what may stand beside `name`. */
  parameters: Schema
}

type Registry = Record<string, Omit<UnitDescription, 'parameters'> & { parameters: TObject }>

const registries: Record<UnitKind, Registry> = { methods, nets, datasets, evaluations }

/** Everything of one kind that a definition can name. */
export function listUnits(kind: UnitKind): UnitDescription[] {
  return Object.values(registries[kind]).map(({ name, title, paper, source, parameters }) => ({
    name,
    title,
    ...(paper === undefined ? {} : { paper }),
    ...(source === undefined ? {} : { source }),
    parameters: asWritten(parameters as Schema),
  }))
}
