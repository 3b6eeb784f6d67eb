import type { FastifyInstance } from 'fastify'
import { NotFound } from '../../errors.ts'
import { sendFile } from '../files.ts'
import type { Parts } from '../parts.ts'
import { idParameters } from '../resources.ts'
import { answers } from './answers.ts'

const bytes = (description: string) => ({ description, content: { 'application/octet-stream': { schema: {} } } })

type Address = { Params: { id: string } }

const description = 'Honours Range, If-Range and If-None-Match; the ETag is the sha256 of the bytes.'
const response = { 200: bytes('The file.'), 206: bytes('The range.'), ...answers(404, 416) }
const common = { tags: ['files'], description, params: idParameters, response }

function unknown(what: string, id: string): NotFound {
  return new NotFound(`there is no ${what} '${id.slice(0, 100)}'`, 'GET /v1/runs/:id lists those of a run')
}

/** GET /v1/artifacts/:id and /v1/checkpoints/:id: the bytes, whole or a range of them. */
export function serveArtifacts(app: FastifyInstance, { ledger, objects }: Parts): void {
  const artifactSchema = { ...common, summary: 'A stored file' }
  app.get<Address>('/v1/artifacts/:id', { schema: artifactSchema }, async (request, reply) => {
    const artifact = await ledger.artifact(request.params.id)
    if (!artifact) throw unknown('artifact', request.params.id)
    const { key, name, type, size, sha256 } = artifact
    return sendFile(request, reply, objects, { key, name, type, size, etag: `"${sha256}"` })
  })
  const checkpointSchema = { ...common, summary: 'A checkpoint as safetensors: weights, memory, optimizer slots' }
  app.get<Address>('/v1/checkpoints/:id', { schema: checkpointSchema }, async (request, reply) => {
    const checkpoint = await ledger.checkpoint(request.params.id)
    if (!checkpoint) throw unknown('checkpoint', request.params.id)
    const { key, runId, step, size, sha256 } = checkpoint
    const name = `${runId}-step-${step}.safetensors`
    return sendFile(request, reply, objects, { key, name, type: 'application/octet-stream', size, etag: `"${sha256}"` })
  })
}
