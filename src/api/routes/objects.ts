import type { FastifyInstance } from 'fastify'
import { NotFound } from '../../errors.ts'
import { Refused } from '../failures.ts'
import { sendFile } from '../files.ts'
import type { Parts } from '../parts.ts'

/** GET /objects/*: what the directory store signed a link to. The signature stands for the token. */
export function serveObjects(app: FastifyInstance, { objects }: Parts): void {
  const options = { schema: { hide: true }, config: { open: true } }
  app.get<{ Params: { '*': string }; Querystring: Record<string, string> }>(
    '/objects/*',
    options,
    async (request, reply) => {
      const key = request.params['*']
      if (!('verify' in objects) || typeof objects.verify !== 'function')
        throw new NotFound('this server keeps its objects elsewhere', 'ask for /v1/artifacts/:id')
      if (!objects.verify(key, request.query))
        throw new Refused(
          403,
          'bad-link',
          'the link was not signed by this server, or its time is over',
          'ask for a new link, or for /v1/artifacts/:id with the token',
        )
      const stat = await objects.stat(key)
      if (!stat) throw new NotFound(`there is no object '${key}'`, 'it was removed since the link was made')
      const { name = key, type = stat.type ?? 'application/octet-stream' } = request.query
      return sendFile(request, reply, objects, { key, name, type, size: stat.size, etag: undefined })
    },
  )
}
