import { createReadStream } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FastifyInstance } from 'fastify'
import { pagePolicy } from '../headers.ts'

const require = createRequire(import.meta.url)

/** A file of an installed package, which need not list it among its exports. */
function installed(name: string, file: string): string {
  return join(dirname(require.resolve(`${name}/package.json`)), file)
}

function own(file: string): string {
  return fileURLToPath(new URL(`../playground/${file}`, import.meta.url))
}

const script = 'text/javascript; charset=utf-8'
const style = 'text/css; charset=utf-8'

/** Everything the page asks for, none of it from elsewhere. */
const files: Record<string, { path: string; type: string }> = {
  'react.js': { path: installed('react', 'umd/react.production.min.js'), type: script },
  'react-dom.js': { path: installed('react-dom', 'umd/react-dom.production.min.js'), type: script },
  'graphql-ws.js': { path: installed('graphql-ws', 'umd/graphql-ws.min.js'), type: script },
  'graphiql.js': { path: installed('graphiql', 'graphiql.min.js'), type: script },
  'graphiql.css': { path: installed('graphiql', 'graphiql.min.css'), type: style },
  'playground.css': { path: own('playground.css'), type: style },
  'examples.js': { path: own('examples.js'), type: script },
  'playground.js': { path: own('playground.js'), type: script },
}

/** GraphiQL at /graphiql. The page is open; what it asks needs the token, as anywhere. */
export function servePlayground(app: FastifyInstance): void {
  const options = { schema: { hide: true }, config: { open: true } }
  app.get('/', options, (_request, reply) => reply.redirect('/graphiql'))
  app.get('/graphiql', options, (_request, reply) =>
    reply
      .type('text/html; charset=utf-8')
      .header('content-security-policy', pagePolicy)
      .send(createReadStream(own('index.html'))),
  )
  for (const [name, { path, type }] of Object.entries(files))
    app.get(`/graphiql/${name}`, options, (_request, reply) =>
      reply.type(type).header('cache-control', 'public, max-age=3600').send(createReadStream(path)),
    )
}
