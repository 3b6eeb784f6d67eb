import Fastify, { type FastifyInstance, LogController } from 'fastify'
import { type Tracing, untraced } from '../tracing.ts'
import { guard } from './auth.ts'
import { openChanges } from './changes.ts'
import { sendProblem } from './failures.ts'
import type { GraphQLParts } from './graphql/context.ts'
import { serveGraphQL } from './graphql/http.ts'
import { openLoaders } from './graphql/loaders.ts'
import { resolvers } from './graphql/resolvers.ts'
import { bindSchema } from './graphql/schema.ts'
import { serveSockets } from './graphql/websocket.ts'
import { secureHeaders } from './headers.ts'
import { refuseUnknownRoutes } from './methods-allowed.ts'
import { describeRoutes, serveDocumentation } from './openapi.ts'
import type { Parts } from './parts.ts'
import { serveArtifacts } from './routes/artifacts.ts'
import { serveDatasets } from './routes/datasets.ts'
import { serveExperiments } from './routes/experiments.ts'
import { serveExports } from './routes/exports.ts'
import { serveHealth } from './routes/health.ts'
import { serveLog } from './routes/log.ts'
import { serveMetrics } from './routes/metrics.ts'
import { serveObjects } from './routes/objects.ts'
import { servePlayground } from './routes/playground.ts'
import { serveRuns } from './routes/runs.ts'
import { serveUnits } from './routes/units.ts'
import { serveWeights } from './routes/weights.ts'
import { refuseSlowSenders } from './slow-senders.ts'
import { openTelemetry, serveTelemetry, type Telemetry } from './telemetry.ts'
import { traceRequests } from './traces.ts'
import { setValidators } from './validators.ts'

/** Secrets that a request may carry are kept out of the log. */
const redact = ['req.headers.authorization', 'req.headers.cookie']

/** In which a body must arrive. */
const bodyMilliseconds = 60_000

function buildFastify({ config }: Parts): FastifyInstance {
  const app = Fastify({
    bodyLimit: config.bodyLimit,
    logger: { level: config.logLevel, redact, base: { part: 'api', pid: process.pid } },
    // What is refused before there is a route, such as an address that does not decode.
    frameworkErrors: (error, request, reply) => void sendProblem(error, request, reply),
    // A line for each request is for those who look closely.
    logController: new LogController({ disableRequestLogging: !['trace', 'debug'].includes(config.logLevel) }),
    requestIdHeader: false,
    genReqId: () => crypto.randomUUID(),
    forceCloseConnections: 'idle',
    routerOptions: { ignoreTrailingSlash: true },
    // Slow senders of headers are broken off by Node, those of bodies by refuseSlowSenders: uploads may take longer.
    requestTimeout: 0,
  })
  // Bodies are JSON; a text body would be a string that no route wants.
  app.removeContentTypeParser('text/plain')
  return app
}

async function serveQueries(app: FastifyInstance, parts: Parts): Promise<void> {
  const changes = await openChanges(parts.database.url)
  app.addHook('onClose', () => changes.close())
  const graphql: GraphQLParts = { ...parts, changes, loaders: openLoaders(parts), log: app.log }
  const schema = bindSchema(resolvers)
  serveGraphQL(app, schema, graphql)
  serveSockets(app, schema, graphql)
}

async function furnish(app: FastifyInstance, parts: Parts, telemetry: Telemetry, tracing: Tracing): Promise<void> {
  app.setErrorHandler(sendProblem)
  setValidators(app)
  guard(app, parts.config)
  traceRequests(app, tracing)
  secureHeaders(app)
  refuseUnknownRoutes(app)
  refuseSlowSenders(app, bodyMilliseconds)
  await describeRoutes(app, parts.config, parts.version)
  serveHealth(app, parts)
  serveTelemetry(app, telemetry)
  serveExperiments(app, parts)
  serveRuns(app, parts)
  serveMetrics(app, parts)
  serveLog(app, parts)
  serveArtifacts(app, parts)
  serveExports(app, parts)
  serveUnits(app)
  serveDatasets(app, parts)
  serveWeights(app, parts)
  serveObjects(app, parts)
  servePlayground(app)
  await serveDocumentation(app)
  await serveQueries(app, parts)
}

/**
 * The API over what it is given: REST, GraphQL, documentation and playground. It listens on nothing yet, so tests can
 * `inject`; closing it closes what it opened, and nothing of `parts`.
 */
export async function createApp(
  parts: Parts,
  telemetry: Telemetry = openTelemetry(parts),
  tracing: Tracing = untraced,
): Promise<FastifyInstance> {
  const app = buildFastify(parts)
  try {
    await furnish(app, parts, telemetry, tracing)
    await app.ready()
    return app
  } catch (error) {
    await app.close()
    throw error
  }
}
