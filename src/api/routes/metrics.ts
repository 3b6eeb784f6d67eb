import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { type Curve, readCurves } from '../../store/metrics.ts'
import { curvesToJson } from '../curve-json.ts'
import { chooseType } from '../negotiation.ts'
import type { Parts } from '../parts.ts'
import { findRun, idParameters } from '../resources.ts'
import { written } from '../validators.ts'
import { answers } from './answers.ts'

/** As far as a JSON number counts exactly. */
const lastStep = Number.MAX_SAFE_INTEGER

const query = Type.Object(
  {
    names: Type.Optional(
      Type.Array(Type.String(), { description: 'Which curves, given several times or with commas.' }),
    ),
    from: Type.Optional(Type.Integer({ minimum: 0, maximum: lastStep, description: 'First step.' })),
    to: Type.Optional(Type.Integer({ minimum: 0, maximum: lastStep, description: 'Last step, included.' })),
    maxPoints: Type.Integer({ minimum: 5, maximum: 10_000, default: 1000, description: 'Of a curve.' }),
  },
  { additionalProperties: false },
)

const point = Type.Object({
  step: Type.Integer(),
  value: Type.Union([Type.Number(), Type.Null()], { description: 'Null where it is not finite.' }),
  text: Type.String({ description: 'The value in full: digits, NaN, Infinity or -Infinity.' }),
  time: Type.String({ format: 'date-time' }),
})
const curve = Type.Object({
  name: Type.String(),
  sampled: Type.Boolean({ description: 'Whether points were left out.' }),
  points: Type.Array(point),
})

function csvCell(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

/** RFC 4180, a line a point. */
function toCsv(curves: readonly Curve[]): string {
  const lines = curves.flatMap(({ name, points }) =>
    points.map(({ step, value, time }) => `${csvCell(name)},${step},${value},${time.toISOString()}`),
  )
  return `${['name,step,value,time', ...lines].join('\r\n')}\r\n`
}

/** GET /v1/runs/:id/metrics as JSON or CSV. */
export function serveMetrics(app: FastifyInstance, parts: Parts): void {
  const schema = {
    tags: ['runs'],
    summary: 'Curves of a run',
    description: 'Real points, the extremes of each stretch among them. As text/csv where that is what you accept.',
    params: idParameters,
    querystring: written(query),
    response: { 200: Type.Object({ runId: Type.String(), curves: Type.Array(curve) }), ...answers(400, 404) },
  }
  app.get<{ Params: { id: string }; Querystring: Static<typeof query> }>(
    '/v1/runs/:id/metrics',
    { schema },
    async (request, reply) => {
      const type = chooseType(request.headers.accept, ['application/json', 'text/csv'])
      const { names, ...rest } = request.query
      const wanted = names?.flatMap((name) => name.split(',')).filter(Boolean)
      const id = request.params.id.toLowerCase()
      const [run, read] = await Promise.all([
        findRun(parts, id),
        readCurves(parts.database.pool, [id], { ...rest, names: wanted }, parts.objects),
      ])
      const curves = read.get(run.id) ?? []
      reply.header('vary', 'accept')
      if (type === 'text/csv') {
        reply.header('x-sampled', String(curves.some(({ sampled }) => sampled)))
        return reply.type('text/csv; charset=utf-8').send(toCsv(curves))
      }
      return reply.type('application/json; charset=utf-8').send(curvesToJson(run.id, curves))
    },
  )
}
