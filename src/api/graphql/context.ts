import type { Changes } from '../changes.ts'
import type { Log, Parts } from '../parts.ts'
import type { Loaders } from './loaders.ts'

/** What resolvers work with. */
export interface GraphQLParts extends Parts {
  changes: Changes
  loaders: Loaders
  log: Log
}
