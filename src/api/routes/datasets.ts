import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { drawSheet } from '../../data/set-preview.ts'
import { InvalidDefinition } from '../../errors.ts'
import { orderQuery, pageOf, pageQuery, readOrder, sendPage } from '../pages.ts'
import type { Parts } from '../parts.ts'
import {
  addedResource,
  addedSchema,
  addingParameters,
  addSet,
  prefixParameter,
  preparingParameters,
  setResource,
  setSchema,
  setSummary,
  setSummarySchema,
} from '../sets.ts'
import { arriving, silenceMilliseconds } from '../slow-senders.ts'
import { written } from '../validators.ts'
import { answers } from './answers.ts'

const strictly = { additionalProperties: false } as const
const uploadQuery = Type.Object({ ...addingParameters, ...preparingParameters }, strictly)
const prefixBody = Type.Object({ ...addingParameters, prefix: prefixParameter }, strictly)
const headers = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({ description: 'The same key with the same request, within a day, is one set.' }),
  ),
})

type Headers = { 'idempotency-key'?: string }
type Named = { Params: { name: string } }
const named = Type.Object({ name: Type.String({ description: 'Of the set.' }) })

/** One route for both: the type of the body says which it is. */
function serveAdding(app: FastifyInstance, parts: Parts): void {
  app.addContentTypeParser('application/x-tar', (_request, payload, done) => done(null, payload))
  const schema = {
    tags: ['datasets'],
    summary: 'Add a set of images',
    description:
      'A tar archive as the body, with the rest in the query; or JSON that names a prefix of tar shards in the object store. Answers 201 once all is stored and counted; nothing is kept of a set that is refused.',
    headers,
    querystring: written(Type.Partial(uploadQuery)),
    body: { content: { 'application/json': { schema: written(prefixBody) }, 'application/x-tar': { schema: {} } } },
    response: { 201: addedSchema, ...answers(400, 408, 409, 413, 415, 422, 503, 507) },
  }
  app.post<{ Body: unknown; Querystring: Partial<Static<typeof uploadQuery>>; Headers: Headers }>(
    '/v1/datasets',
    { schema, config: { upload: true } },
    async (request, reply) => {
      const { query, body } = request
      const archives = isStream(body) ? one(query.name ?? '', arriving(body, silenceMilliseconds)) : undefined
      if (!archives && request.url.includes('?')) throw misplaced('', 'takes no query: the body says it all')
      const asked = archives ? query : (body as Static<typeof prefixBody>)
      if (asked.name === undefined) throw misplaced('/name', 'is missing: the name of the set')
      const added = await addSet(
        parts,
        asked as Static<typeof prefixBody>,
        archives,
        request.headers['idempotency-key'],
      )
      if (added.replayed) reply.header('idempotency-replayed', 'true')
      reply.code(201).header('location', `/v1/datasets/sets/${added.set.name}`)
      return reply.send(addedResource(added.set, added.report))
    },
  )
}

function isStream(body: unknown): body is AsyncIterable<Uint8Array> {
  return typeof body === 'object' && body !== null && Symbol.asyncIterator in body
}

function misplaced(pointer: string, detail: string): InvalidDefinition {
  return new InvalidDefinition([{ pointer, detail }], 'the request')
}

async function* one(name: string, stream: AsyncIterable<Uint8Array>) {
  yield { name: `the archive of '${name}'`, stream }
}

const listQuery = Type.Object({ ...pageQuery, order: orderQuery(['createdAt', 'name']) }, strictly)

function serveReading(app: FastifyInstance, { sets }: Parts): void {
  const list = { tags: ['datasets'], summary: 'Sets of images, newest first', querystring: written(listQuery) }
  app.get<{ Querystring: Static<typeof listQuery> }>(
    '/v1/datasets/sets',
    { schema: { ...list, response: { 200: pageOf(setSummarySchema), ...answers(400) } } },
    async (request, reply) => {
      const { first, after, order } = request.query
      const page = await sets.list({ first, after, order: readOrder(order) })
      return sendPage(request, reply, { ...page, items: page.rows.map(setSummary) })
    },
  )
  const one = { tags: ['datasets'], summary: 'A set of images', params: named }
  app.get<Named>(
    '/v1/datasets/sets/:name',
    { schema: { ...one, response: { 200: setSchema, ...answers(404) } } },
    async ({ params }) => setResource(await sets.find(params.name)),
  )
  const removal = { tags: ['datasets'], summary: 'Remove a set that no run wants to read any more', params: named }
  app.delete<Named>(
    '/v1/datasets/sets/:name',
    { schema: { ...removal, response: { 204: { description: 'It is gone.' }, ...answers(404, 409) } } },
    async ({ params }, reply) => {
      await sets.remove(params.name)
      return reply.code(204).send()
    },
  )
}

const previewQuery = Type.Object(
  {
    count: Type.Integer({ minimum: 1, maximum: 400, default: 64, description: 'How many images.' }),
    split: Type.Optional(Type.Enum(['train', 'test'])),
  },
  strictly,
)

function serveLooking(app: FastifyInstance, { sets, bytes }: Parts): void {
  const png = { description: 'The sheet.', content: { 'image/png': { schema: {} } } }
  const preview = {
    tags: ['datasets'],
    summary: 'Some images of a set on one sheet',
    params: named,
    querystring: written(previewQuery),
    response: { 200: png, ...answers(400, 404) },
  }
  app.get<Named & { Querystring: Static<typeof previewQuery> }>(
    '/v1/datasets/sets/:name/preview',
    { schema: preview },
    async ({ params, query }, reply) => {
      const { manifest } = await sets.find(params.name)
      return reply.type('image/png').send(Buffer.from(await drawSheet(manifest, bytes, query)))
    },
  )
  const verification = {
    tags: ['datasets'],
    summary: 'Read a set again and compare it with its digests',
    description: 'A line of JSON for each object, as it is read: { path, bytes, fault }; no fault where all is well.',
    params: named,
    response: { 200: { description: 'Lines.', content: { 'application/x-ndjson': { schema: {} } } }, ...answers(404) },
  }
  app.post<Named>('/v1/datasets/sets/:name/verify', { schema: verification }, async ({ params }, reply) => {
    const { name } = await sets.find(params.name)
    const lines = async function* () {
      for await (const verdict of sets.verify(name)) yield `${JSON.stringify(verdict)}\n`
    }
    return reply.type('application/x-ndjson').send(Readable.from(lines()))
  })
}

/** POST /v1/datasets, and /v1/datasets/sets with what is below it. */
export function serveDatasets(app: FastifyInstance, parts: Parts): void {
  serveAdding(app, parts)
  serveReading(app, parts)
  serveLooking(app, parts)
}
