import type { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { InvalidDefinition } from '../../errors.ts'
import { weightsName } from '../../experiments/from.ts'
import { readNameMap } from '../../experiments/name-map.ts'
import { presets } from '../../models/weights/presets.ts'
import type { FileHeader } from '../../store/tensor-stream.ts'
import { addWeights, findWeights, listWeights, removeWeights, type Weights } from '../../store/weights.ts'
import type { Parts } from '../parts.ts'
import { arriving, silenceMilliseconds } from '../slow-senders.ts'
import { answers } from './answers.ts'

const weightsSchema = Type.Object({
  id: Type.String({ format: 'uuid' }),
  name: Type.String({ description: 'As definitions name them: from: { "weights": name }.' }),
  source: Type.String({ description: 'What named its tensors: a preset, a map, or its own names.' }),
  size: Type.Integer({ description: 'Of the file, in bytes.' }),
  fileSha256: Type.String(),
  sha256: Type.String({ description: 'Of the file and of how it is read; definitions name it in from.sha256.' }),
  createdAt: Type.String({ format: 'date-time' }),
  tensors: Type.Unknown({ description: 'Each with its name there and here, its shape here, and how it is laid out.' }),
})

const addQuery = Type.Object(
  {
    name: Type.String({ pattern: weightsName, description: 'What to call them.' }),
    preset: Type.Optional(Type.Enum(Object.keys(presets), { description: 'How the tensors are called in the file.' })),
  },
  { additionalProperties: false },
)

const parameters = Type.Object({ name: Type.String() })

/** What a file says of itself beside its tensors: a name map as JSON. */
const mapKey = 'gestalt.map'

function chooseMap(preset: string | undefined) {
  return ({ meta }: FileHeader) => {
    const map = meta[mapKey]
    if (preset !== undefined && map !== undefined) {
      const detail = `is '${preset}', and the file brings a map of its own in its metadata: one of them would be right`
      throw new InvalidDefinition([{ pointer: '/preset', detail }], 'the request')
    }
    if (map !== undefined) return { map: readNameMap(map), source: 'map' }
    return preset === undefined ? { map: undefined, source: 'own names' } : { map: presets[preset]!, source: preset }
  }
}

function resource({ id, name, source, size, fileSha256, sha256, createdAt, tensors }: Weights) {
  return { id, name, source, size, fileSha256, sha256, createdAt, tensors }
}

function servePost(scope: FastifyInstance, { config, database, objects }: Parts): void {
  // Files pass through as they come: nothing of them is held here. How much there may be, the store counts.
  scope.addContentTypeParser('application/octet-stream', (_request, payload, done) => done(null, payload))
  scope.post<{ Querystring: Static<typeof addQuery>; Body: Readable | undefined }>(
    '/v1/weights',
    {
      bodyLimit: config.uploadLimit,
      config: { upload: true },
      schema: {
        tags: ['weights'],
        summary: 'Bring weights that were trained elsewhere, as safetensors',
        description: `The body is the file. A name map goes into its metadata as JSON under '${mapKey}'; without map and preset its tensors must be called as in checkpoints. The same file under the same name again changes nothing (200).`,
        consumes: ['application/octet-stream'],
        querystring: addQuery,
        response: { 201: weightsSchema, 200: weightsSchema, ...answers(400, 408, 409, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      const { name, preset } = request.query
      if (!request.body) throw new InvalidDefinition([{ pointer: '', detail: 'is empty' }], 'the body')
      const bytes = arriving(request.body, silenceMilliseconds)
      const asked = { name, bytes, limit: config.uploadLimit, choose: chooseMap(preset) }
      const { weights, added } = await addWeights({ pool: database.pool, objects }, asked)
      return reply
        .code(added ? 201 : 200)
        .header('location', `/v1/weights/${weights.name}`)
        .send(resource(weights))
    },
  )
}

/** /v1/weights and /v1/weights/:name */
export function serveWeights(app: FastifyInstance, parts: Parts): void {
  const { pool } = parts.database
  app.register(async (scope) => servePost(scope, parts))
  const list = { tags: ['weights'], summary: 'Imported weights, by name' }
  const item = weightsSchema
  app.get(
    '/v1/weights',
    { schema: { ...list, response: { 200: Type.Object({ items: Type.Array(item) }) } } },
    async () => ({ items: (await listWeights(pool)).map(resource) }),
  )
  app.get<{ Params: { name: string } }>(
    '/v1/weights/:name',
    {
      schema: {
        tags: ['weights'],
        summary: 'One of them',
        params: parameters,
        response: { 200: item, ...answers(404) },
      },
    },
    async (request) => resource(await findWeights(pool, request.params.name)),
  )
  app.delete<{ Params: { name: string } }>(
    '/v1/weights/:name',
    {
      schema: {
        tags: ['weights'],
        summary: 'Remove weights that no run starts from',
        params: parameters,
        response: { 204: Type.Null(), ...answers(404, 409) },
      },
    },
    async (request, reply) => {
      await removeWeights({ pool, objects: parts.objects }, request.params.name)
      return reply.code(204).send()
    },
  )
}
