import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { listUnits, unitKinds } from '../../experiments/units.ts'

const unit = Type.Object({
  name: Type.String(),
  title: Type.String(),
  paper: Type.Optional(Type.String({ description: 'Of a method, a net or an evaluation.' })),
  source: Type.Optional(Type.String({ description: 'Of a dataset.' })),
  parameters: Type.Unknown({ description: 'JSON Schema of what may stand beside `name` in a definition.' }),
})

/** GET /v1/methods, /v1/nets, /v1/datasets and /v1/evaluations. */
export function serveUnits(app: FastifyInstance): void {
  for (const kind of unitKinds) {
    const schema = {
      tags: ['units'],
      summary: `The ${kind} a definition may name`,
      response: { 200: Type.Object({ items: Type.Array(unit) }) },
    }
    app.get(`/v1/${kind}`, { schema }, () => ({ items: listUnits(kind) }))
  }
}
