import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { GraphQLSchema } from 'graphql'
import mercurius from 'mercurius'
import { Refused } from '../failures.ts'
import type { GraphQLParts } from './context.ts'
import { formatErrors, statusOf } from './faults.ts'
import { limitQuery, limits } from './limits.ts'

const modern = 'application/graphql-response+json'

function wantsModern(request: FastifyRequest): boolean {
  return (request.headers.accept ?? '').includes(modern)
}

function malformed(detail: string): Refused {
  const cure =
    'send {"query": "…", "variables": {…}, "operationName": "…"}; query is a string, the others may be left out'
  return new Refused(400, 'malformed-query', detail, cure)
}

/**
 * GraphQL over HTTP: judges the parameters as they were sent (a validator would turn `{"query": 0}` into a string)
 * and chooses the media type of the answer.
 */
async function judge(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  reply.type(`${wantsModern(request) ? modern : 'application/json'}; charset=utf-8`)
  const sent = request.method === 'GET' ? request.query : request.body
  if (typeof sent !== 'object' || sent === null || Array.isArray(sent)) throw malformed('there is no query')
  const parameters = sent as Record<string, unknown>
  for (const name of ['operationName', 'variables', 'extensions'])
    if (parameters[name] === null) delete parameters[name]
  const { query, operationName, variables, extensions } = parameters
  if (typeof query !== 'string' || query === '') throw malformed('query is not a text')
  if (operationName !== undefined && typeof operationName !== 'string') throw malformed('operationName is not a text')
  if (request.method === 'GET') return
  for (const [name, value] of Object.entries({ variables, extensions }))
    if (value !== undefined && (typeof value !== 'object' || Array.isArray(value)))
      throw malformed(`${name} is not an object`)
}

/**
 * The answer to a request that got no data. To `application/json` a document that does not fit is answered with 200,
 * as old clients expect and the draft says; to the newer media type with 400.
 */
function refusal(errors: readonly unknown[], request: FastifyRequest) {
  const { status, ofDocument } = statusOf(errors)
  const statusCode = ofDocument && !wantsModern(request) ? 200 : status
  return { statusCode, response: { errors: formatErrors(errors, request.log) } }
}

/** GraphQL on POST and GET /graphql; websockets are served by `serveSockets`. */
export function serveGraphQL(app: FastifyInstance, schema: GraphQLSchema, parts: GraphQLParts): void {
  app.register(mercurius, {
    schema,
    context: (request) => ({ ...parts, span: request.span }),
    jit: 1,
    allowBatchedQueries: false,
    cache: 512,
    graphql: { parseOptions: { maxTokens: limits.tokens }, validateOptions: { maxErrors: 20 } },
    additionalRouteOptions: { schema: { hide: true }, preValidation: judge },
    errorFormatter(execution, context) {
      const { request } = context.reply
      if (execution.data === undefined) return refusal(execution.errors, request)
      const errors = formatErrors(execution.errors, request.log)
      return { statusCode: 200, response: { data: execution.data, errors } }
    },
    errorHandler(error, request, reply) {
      const { statusCode, response } = refusal([error], request)
      if (statusCode === 401) reply.header('www-authenticate', 'Bearer realm="gestalt"')
      reply.code(statusCode).type(`${wantsModern(request) ? modern : 'application/json'}; charset=utf-8`)
      reply.send(response)
    },
  })
  app.after(() => {
    app.graphql.addHook('preExecution', async (_schema, document, context, variables) => {
      const { operationName } = named(context.reply.request)
      limitQuery(schema, document, variables, operationName)
      // The compiled form knows one operation of a document, whichever was asked for first: several are not compiled.
      const operations = document.definitions.filter((definition) => definition.kind === 'OperationDefinition')
      return operations.length > 1 ? { document } : undefined
    })
  })
}

function named(request: FastifyRequest): { operationName?: string } {
  return ((request.method === 'GET' ? request.query : request.body) ?? {}) as { operationName?: string }
}
