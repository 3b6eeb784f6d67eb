import type { FastifyInstance } from 'fastify'
import { Refused } from './failures.ts'

/** '/v1/runs/:id' or '/objects/*' as a pattern of whole paths. */
function pattern(url: string): RegExp {
  const parts = url.split('/').map((part) => {
    if (part === '*') return '.*'
    return part.startsWith(':') ? '[^/]+' : part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  })
  return new RegExp(`^${parts.join('/')}$`)
}

/** Answers what no route matches: 405 with the methods that would fit, or 404. Register before the routes. */
export function refuseUnknownRoutes(app: FastifyInstance): void {
  const known: { path: RegExp; methods: string[] }[] = []
  app.addHook('onRoute', ({ url, method }) => {
    known.push({ path: pattern(url), methods: [method].flat() })
  })
  app.setNotFoundHandler(async (request, reply) => {
    const path = request.url.split('?')[0]!
    const fitting = known.filter((route) => route.path.test(path)).flatMap((route) => route.methods)
    const methods = [...new Set(fitting)].sort().join(', ')
    if (!methods)
      throw new Refused(
        404,
        'no-such-route',
        `there is nothing at ${path}`,
        '/docs lists everything this server answers',
      )
    reply.header('allow', methods)
    throw new Refused(405, 'method-not-allowed', `${path} does not take ${request.method}`, `use ${methods}`)
  })
}
