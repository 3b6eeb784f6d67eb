import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { definitionSchema } from '../../experiments/definition.ts'
import { readFilter } from '../filters.ts'
import { orderQuery, pageOf, pageQuery, readOrder, sendPage } from '../pages.ts'
import type { Parts } from '../parts.ts'
import {
  experimentResource,
  experimentSchema,
  findExperiment,
  idParameters,
  runResource,
  runSchema,
} from '../resources.ts'
import { judgeDefinition, submitExperiment } from '../submit.ts'
import { written } from '../validators.ts'
import { answers } from './answers.ts'

const accepted = Type.Object({
  experimentId: Type.String({ format: 'uuid' }),
  runIds: Type.Array(Type.String({ format: 'uuid' })),
})

const submission = {
  tags: ['experiments'],
  summary: 'Accept an experiment, or plan it',
  description: 'Answers 202 once the experiment and its runs are durable; its runs then wait for a worker.',
  body: definitionSchema,
  querystring: written(
    Type.Object(
      { dryRun: Type.Boolean({ default: false, description: 'Keep nothing and answer the plan (200).' }) },
      { additionalProperties: false },
    ),
  ),
  headers: Type.Object({
    'idempotency-key': Type.Optional(
      Type.String({ description: 'The same key with the same definition, within a day, is one experiment.' }),
    ),
  }),
  response: {
    202: accepted,
    200: Type.Unknown({ description: 'The plan: the definition with every default, and what it will take.' }),
    ...answers(400, 409, 413, 415, 422, 503),
  },
}

const listQuery = Type.Object(
  {
    ...pageQuery,
    order: orderQuery(['createdAt', 'name', 'priority']),
    name: Type.Optional(Type.String({ description: 'Part of the name, in any case.' })),
    tag: Type.Optional(Type.String()),
    method: Type.Optional(Type.String()),
    dataset: Type.Optional(Type.String()),
    createdAfter: Type.Optional(Type.String({ format: 'date-time' })),
    createdBefore: Type.Optional(Type.String({ format: 'date-time' })),
  },
  { additionalProperties: false },
)

function servePost(app: FastifyInstance, parts: Parts): void {
  app.post<{ Body: unknown; Querystring: { dryRun: boolean }; Headers: { 'idempotency-key'?: string } }>(
    '/v1/experiments',
    {
      schema: submission,
      // The body has one judge for every door: parseDefinition.
      validatorCompiler: (route) => (route.httpPart === 'body' ? () => true : app.validatorCompiler!(route)),
    },
    async (request, reply) => {
      if (request.query.dryRun) return reply.send(await judgeDefinition(parts, request.body))
      const key = request.headers['idempotency-key']
      const result = await submitExperiment(parts, request.body, { key, log: request.log, span: request.span })
      if (result.replayed) reply.header('idempotency-replayed', 'true')
      const { experimentId, runIds } = result
      return reply.code(202).header('location', `/v1/experiments/${experimentId}`).send({ experimentId, runIds })
    },
  )
}

/** /v1/experiments and /v1/experiments/:id */
export function serveExperiments(app: FastifyInstance, parts: Parts): void {
  servePost(app, parts)
  const list = { tags: ['experiments'], summary: 'Experiments, newest first', querystring: written(listQuery) }
  app.get<{ Querystring: Static<typeof listQuery> }>(
    '/v1/experiments',
    { schema: { ...list, response: { 200: pageOf(experimentSchema), ...answers(400) } } },
    async (request, reply) => {
      const { first, after, order, ...filter } = request.query
      const page = await parts.ledger.listExperiments({
        filter: readFilter(filter),
        order: readOrder(order),
        first,
        after,
      })
      return sendPage(request, reply, { ...page, items: page.rows.map(experimentResource) })
    },
  )
  const detail = Type.Object({ ...experimentSchema.properties, runs: Type.Array(runSchema) })
  app.get<{ Params: { id: string } }>(
    '/v1/experiments/:id',
    {
      schema: {
        tags: ['experiments'],
        summary: 'An experiment with its runs',
        params: idParameters,
        response: { 200: detail, ...answers(404) },
      },
    },
    async (request) => {
      const experiment = await findExperiment(parts, request.params.id)
      const runs = await parts.ledger.runsOfExperiments([experiment.id])
      return { ...experimentResource(experiment), runs: (runs.get(experiment.id) ?? []).map(runResource) }
    },
  )
}
