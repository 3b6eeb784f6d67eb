import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { runStates } from '../../experiments/run.ts'
import { whyWaiting } from '../../experiments/waiting.ts'
import type { Run } from '../../store/ledger.ts'
import { readFilter } from '../filters.ts'
import { orderQuery, pageOf, pageQuery, readOrder, sendPage } from '../pages.ts'
import type { Parts } from '../parts.ts'
import { findRun, idParameters, runResource, runSchema } from '../resources.ts'
import { written } from '../validators.ts'
import { answers } from './answers.ts'

const listQuery = Type.Object(
  {
    ...pageQuery,
    order: orderQuery(['createdAt', 'name', 'priority', 'finishedAt']),
    state: Type.Optional(Type.Array(Type.Enum([...runStates]), { description: 'Given several times: any of them.' })),
    name: Type.Optional(Type.String({ description: 'Part of the name, in any case.' })),
    tag: Type.Optional(Type.String({ description: 'A tag of its experiment.' })),
    experimentId: Type.Optional(Type.String({ format: 'uuid' })),
    method: Type.Optional(Type.String()),
    dataset: Type.Optional(Type.String()),
    createdAfter: Type.Optional(Type.String({ format: 'date-time' })),
    createdBefore: Type.Optional(Type.String({ format: 'date-time' })),
  },
  { additionalProperties: false },
)

/** What was kept of a run beside its row. */
async function keptOf({ ledger }: Parts, runId: string) {
  const ids = [runId]
  const [attempts, checkpoints, artifacts, findings, embeddings] = await Promise.all([
    ledger.attempts(ids),
    ledger.checkpoints(ids),
    ledger.artifacts(ids),
    ledger.findings(ids),
    ledger.embeddings(ids),
  ])
  return {
    attempts: attempts.get(runId) ?? [],
    checkpoints: (checkpoints.get(runId) ?? []).map(({ id, step, final, size, sha256, createdAt }) => ({
      ...{ id, step, final, size, sha256, createdAt },
      url: `/v1/checkpoints/${id}`,
    })),
    artifacts: (artifacts.get(runId) ?? []).map(({ id, name, type, size, sha256, createdAt }) => ({
      ...{ id, name, type, size, sha256, createdAt },
      url: `/v1/artifacts/${id}`,
    })),
    findings: findings.get(runId) ?? [],
    embeddings: embeddings.get(runId) ?? [],
  }
}

/** Why a run that is queued has not begun. */
async function waitingOf({ ledger }: Parts, { id, state, needs }: Run): Promise<string | null> {
  if (state !== 'queued') return null
  const [workers, attempts] = await Promise.all([ledger.workers(), ledger.attempts([id])])
  const online = workers.filter((worker) => worker.state === 'online')
  return whyWaiting(needs, online, attempts.get(id)?.at(-1))
}

function serveList(app: FastifyInstance, parts: Parts): void {
  app.get<{ Querystring: Static<typeof listQuery> }>(
    '/v1/runs',
    {
      schema: {
        tags: ['runs'],
        summary: 'Runs, newest first',
        querystring: written(listQuery),
        response: { 200: pageOf(runSchema), ...answers(400) },
      },
    },
    async (request, reply) => {
      const { first, after, order, ...filter } = request.query
      const page = await parts.ledger.listRuns({ filter: readFilter(filter), order: readOrder(order), first, after })
      return sendPage(request, reply, { ...page, items: page.rows.map(runResource) })
    },
  )
}

/** /v1/runs, /v1/runs/:id and /v1/runs/:id/cancel */
export function serveRuns(app: FastifyInstance, parts: Parts): void {
  serveList(app, parts)
  const kept = {
    waiting: Type.Union([Type.String(), Type.Null()], {
      description: 'Why it has not begun, for a person; null unless it is queued.',
    }),
    attempts: Type.Array(Type.Unknown()),
    checkpoints: Type.Array(Type.Unknown({ description: 'Newest first, as safetensors; `url` is where to get one.' })),
    artifacts: Type.Array(Type.Unknown({ description: 'Stored files; `url` is where to get one.' })),
    findings: Type.Array(Type.Unknown({ description: 'Scores and tables of each evaluation.' })),
    embeddings: Type.Array(Type.Unknown()),
  }
  app.get<{ Params: { id: string } }>(
    '/v1/runs/:id',
    {
      schema: {
        tags: ['runs'],
        summary: 'A run with all that was kept of it',
        params: idParameters,
        response: { 200: Type.Object({ ...runSchema.properties, ...kept }), ...answers(404) },
      },
    },
    async (request) => {
      const run = await findRun(parts, request.params.id)
      const [waiting, kept] = await Promise.all([waitingOf(parts, run), keptOf(parts, run.id)])
      return { ...runResource(run), waiting, ...kept }
    },
  )
  app.post<{ Params: { id: string } }>(
    '/v1/runs/:id/cancel',
    {
      schema: {
        tags: ['runs'],
        summary: 'Ask a run to stop',
        description: 'A waiting run is cancelled at once, a running one at its next step boundary, with a checkpoint.',
        params: idParameters,
        response: { 202: runSchema, ...answers(404, 409) },
      },
    },
    async (request, reply) => {
      const { id } = await findRun(parts, request.params.id)
      return reply.code(202).send(runResource(await parts.ledger.requestCancel(id)))
    },
  )
}
