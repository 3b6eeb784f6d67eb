import { GraphQLError, type GraphQLFormattedError } from 'graphql'
import { GestaltError } from '../../errors.ts'
import { toFailure } from '../failures.ts'
import type { Log } from '../parts.ts'

/** The error a resolver threw, below what GraphQL wrapped around it. */
function cause(error: unknown): unknown {
  let inner = error
  while (inner instanceof GraphQLError && inner.originalError) inner = inner.originalError
  return inner
}

/** Mercurius throws one error for all that is wrong with a document; these are what is wrong. */
function parts(error: unknown): unknown[] {
  const inner = cause(error)
  const several = inner instanceof Error && 'errors' in inner && Array.isArray(inner.errors) ? inner.errors : []
  return several.length > 0 ? several : [error]
}

function ofQuery(error: GraphQLError): GraphQLFormattedError {
  const cure = 'correct the query; /graphiql shows the schema'
  return { ...error.toJSON(), extensions: { code: 'invalid-query', cure, ...error.extensions } }
}

function format(error: unknown, log: Log): GraphQLFormattedError {
  const inner = cause(error)
  if (inner instanceof GraphQLError) return ofQuery(error instanceof GraphQLError ? error : inner)
  const { code, cure, errors, detail, expected } = toFailure(inner)
  if (!expected) log.error({ err: inner }, 'a query met a defect')
  const extensions = { code, cure, ...(errors.length > 0 ? { errors } : {}) }
  const { locations, path } = error instanceof GraphQLError ? error.toJSON() : {}
  return { message: detail, ...(locations && { locations }), ...(path && { path }), extensions }
}

/** The one translation of errors into GraphQL's; whatever is not ours to tell is masked and logged. */
export function formatErrors(errors: readonly unknown[], log: Log): GraphQLFormattedError[] {
  return errors.flatMap(parts).map((error) => format(error, log))
}

/** The status of an answer without data: of what the request itself is refused for. */
export function statusOf(errors: readonly unknown[]): { status: number; ofDocument: boolean } {
  const [first] = errors
  const inner = cause(first)
  if (inner instanceof GestaltError) return { status: inner.status, ofDocument: false }
  const status = inner instanceof Error && 'statusCode' in inner ? Number(inner.statusCode) : 400
  const code = inner instanceof Error && 'code' in inner ? String(inner.code) : ''
  return { status, ofDocument: inner instanceof GraphQLError || code === 'MER_ERR_GQL_VALIDATION' }
}
