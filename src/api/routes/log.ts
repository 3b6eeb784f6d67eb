import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { chooseType } from '../negotiation.ts'
import type { Parts } from '../parts.ts'
import { findRun, idParameters } from '../resources.ts'
import { written } from '../validators.ts'
import { answers } from './answers.ts'

const query = Type.Object(
  { last: Type.Integer({ minimum: 1, maximum: 10_000, default: 1000, description: 'The newest lines, so many.' }) },
  { additionalProperties: false },
)

const line = Type.Object({
  time: Type.String({ format: 'date-time' }),
  level: Type.String(),
  text: Type.String(),
})

/** GET /v1/runs/:id/log as JSON or plain text. */
export function serveLog(app: FastifyInstance, parts: Parts): void {
  const schema = {
    tags: ['runs'],
    summary: 'The log of a run, oldest first',
    params: idParameters,
    querystring: written(query),
    response: { 200: Type.Object({ runId: Type.String(), lines: Type.Array(line) }), ...answers(404) },
  }
  app.get<{ Params: { id: string }; Querystring: Static<typeof query> }>(
    '/v1/runs/:id/log',
    { schema },
    async (request, reply) => {
      const type = chooseType(request.headers.accept, ['application/json', 'text/plain'])
      const run = await findRun(parts, request.params.id)
      const log = await parts.ledger.log([run.id], request.query.last)
      const lines = (log.get(run.id) ?? []).map(({ time, level, text }) => ({ time, level, text }))
      reply.header('vary', 'accept')
      if (type === 'application/json') return { runId: run.id, lines }
      const text = lines.map(({ time, level, text }) => `${time.toISOString()} ${level.padEnd(5)} ${text}\n`).join('')
      return reply.type('text/plain; charset=utf-8').send(text)
    },
  )
}
