import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config.ts'
import { open } from './auth.ts'
import { pagePolicy } from './headers.ts'

const tags = [
  { name: 'experiments', description: 'What was asked.' },
  { name: 'runs', description: 'What was done, and what it gave.' },
  { name: 'units', description: 'What a definition may name.' },
  { name: 'datasets', description: 'Sets of your own images.' },
  { name: 'files', description: 'Stored files.' },
  { name: 'health', description: 'For whoever watches this process.' },
]

/** Collects the schemas of the routes registered after it. */
export async function describeRoutes(app: FastifyInstance, config: Config, version: string): Promise<void> {
  const bearer = { type: 'http', scheme: 'bearer', description: 'The value of GESTALT_TOKEN.' } as const
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Gestalt',
        version,
        description: 'Experiments in unsupervised visual representation learning. GraphQL is at /graphql.',
      },
      tags,
      ...(config.token === undefined
        ? {}
        : { components: { securitySchemes: { bearer } }, security: [{ bearer: [] }] }),
    },
  })
}

/** The documentation at /docs, every file of it from here, and the document itself at /openapi.json. */
export async function serveDocumentation(app: FastifyInstance): Promise<void> {
  await app.register(async (scope) => {
    open(scope)
    scope.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())
    await scope.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: pagePolicy,
      // The validator's badge would be an image from another host.
      uiConfig: { validatorUrl: null, persistAuthorization: true, docExpansion: 'list', tryItOutEnabled: true },
      // The bar on top would only offer to load the document of somebody else.
      theme: {
        title: 'Gestalt: API',
        css: [{ filename: 'gestalt.css', content: '.swagger-ui .topbar { display: none }' }],
      },
    })
  })
}
