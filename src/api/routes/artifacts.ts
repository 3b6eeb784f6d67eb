import type { FastifyInstance } from 'fastify'
import { NotFound } from '../../errors.ts'
import { isId } from '../../store/id.ts'
import { sendFile } from '../files.ts'
import type { Parts } from '../parts.ts'
import { idParameters } from '../resources.ts'
import { answers } from './answers.ts'

const bytes = (description: string) => ({ description, content: { 'application/octet-stream': { schema: {} } } })

/** GET /v1/artifacts/:id: the bytes, whole or a range of them. */
export function serveArtifacts(app: FastifyInstance, { ledger, objects }: Parts): void {
  const schema = {
    tags: ['files'],
    summary: 'A stored file',
    description: 'Honours Range, If-Range and If-None-Match; the ETag is the sha256 of the bytes.',
    params: idParameters,
    response: { 200: bytes('The file.'), 206: bytes('The range.'), ...answers(404, 416) },
  }
  app.get<{ Params: { id: string } }>('/v1/artifacts/:id', { schema }, async (request, reply) => {
    const { id } = request.params
    const artifact = isId(id) ? await ledger.artifact(id) : undefined
    if (!artifact)
      throw new NotFound(`there is no artifact '${id.slice(0, 100)}'`, 'GET /v1/runs/:id lists those of a run')
    const { key, name, type, size, sha256 } = artifact
    return sendFile(request, reply, objects, { key, name, type, size: Number(size), etag: `"${sha256}"` })
  })
}
