import type { Span } from '../../tracing.ts'
import type { Changes } from '../changes.ts'
import type { Log, Parts } from '../parts.ts'
import type { Loaders } from './loaders.ts'

/** What resolvers work with. */
export interface GraphQLParts extends Parts {
  changes: Changes
  loaders: Loaders
  log: Log
  /** Of the request, where it is traced. */
  span?: Span | undefined
}
