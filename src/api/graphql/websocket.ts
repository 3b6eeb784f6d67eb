import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { type ExecutionArgs, GraphQLError, type GraphQLSchema, getOperationAST, parse, validate } from 'graphql'
import { handleProtocols, makeServer, type Server, type SubscribePayload } from 'graphql-ws'
import { type WebSocket, WebSocketServer } from 'ws'
import { checkHost, checkOrigin, checkSocketToken } from '../auth.ts'
import type { GraphQLParts } from './context.ts'
import { formatErrors } from './faults.ts'
import { limitQuery, limits } from './limits.ts'

const path = '/graphql'
/** Operations at once on one socket, and sockets at once on one process. */
const most = { operations: 50, sockets: 1000 }
/** A socket that answers no ping for this long is gone; proxies cut idle ones later than this. Milliseconds. */
const heartbeat = 15_000

interface Upgrade {
  request: IncomingMessage
}
type Protocol = Server<Upgrade>

/** What a query, mutation or subscription of a socket is run with, or why it is not. */
function prepare(
  schema: GraphQLSchema,
  contextValue: GraphQLParts,
  { query, variables, operationName }: SubscribePayload,
): ExecutionArgs | readonly GraphQLError[] {
  try {
    const document = parse(query, { maxTokens: limits.tokens })
    const errors = validate(schema, document, undefined, { maxErrors: 20 })
    if (errors.length > 0) return errors
    if (!getOperationAST(document, operationName))
      throw new GraphQLError('the document has no operation of that name, or several and none was named')
    const variableValues = variables ?? {}
    limitQuery(schema, document, variableValues, operationName)
    return { schema, document, contextValue, variableValues, operationName }
  } catch (error) {
    if (error instanceof GraphQLError) return [error]
    throw error
  }
}

function openProtocol(schema: GraphQLSchema, parts: GraphQLParts): Protocol {
  return makeServer<Record<string, unknown>, Upgrade>({
    connectionInitWaitTimeout: 5000,
    // False closes the socket with 4403: Forbidden.
    onConnect({ connectionParams, extra }) {
      try {
        checkSocketToken(parts.config, connectionParams, extra.request.headers.authorization)
        return true
      } catch {
        return false
      }
    },
    onSubscribe(context, _id, payload) {
      if (Object.keys(context.subscriptions).length > most.operations)
        return [new GraphQLError(`a socket carries ${most.operations} operations at once`)]
      return prepare(schema, parts, payload)
    },
    onNext: (_context, _id, _payload, _args, result) =>
      result.errors ? { ...result, errors: formatErrors(result.errors, parts.log) as GraphQLError[] } : undefined,
    onError: (_context, _id, _payload, errors) => formatErrors(errors, parts.log),
  })
}

/** Speaks the protocol on one socket until it closes. */
function attach(protocol: Protocol, socket: WebSocket, request: IncomingMessage, log: GraphQLParts['log']): void {
  let alive = true
  const closed = protocol.opened(
    {
      protocol: socket.protocol,
      // Resolves when the bytes have left, so a slow reader is sent no more than it takes.
      send: (data) =>
        new Promise((resolve, reject) => {
          if (socket.readyState !== socket.OPEN) return resolve()
          socket.send(data, (error) => (error ? reject(error) : resolve()))
        }),
      close: (code, reason) => socket.close(code, reason),
      onMessage(handle) {
        socket.on('message', (data) => {
          handle(String(data)).catch((error: unknown) => {
            log.error({ err: error }, 'a websocket met a defect')
            socket.close(4500, 'Internal server error')
          })
        })
      },
    },
    { request },
  )
  const timer = setInterval(() => {
    if (!alive) return socket.terminate()
    alive = false
    socket.ping()
  }, heartbeat)
  socket.on('pong', () => {
    alive = true
  })
  socket.on('error', (error) => log.debug({ err: error }, 'a websocket broke'))
  socket.once('close', (code, reason) => {
    clearInterval(timer)
    void closed(code, String(reason))
  })
}

/** Refuses an upgrade in words that a person who looks at the traffic can read. */
function refuse(socket: Duplex, status: string, text: string): void {
  const head = `HTTP/1.1 ${status}\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n`
  socket.end(`${head}content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`)
}

/**
 * GraphQL over graphql-transport-ws: queries, mutations and subscriptions, judged and limited as over HTTP. (The
 * transport of mercurius validates no subscription and lets a socket stay that never says who it is.)
 */
export function serveSockets(app: FastifyInstance, schema: GraphQLSchema, parts: GraphQLParts): void {
  const { config, log } = parts
  const server = new WebSocketServer({ noServer: true, handleProtocols, maxPayload: config.bodyLimit })
  const protocol = openProtocol(schema, parts)
  const upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy())
    if ((request.url ?? '').split('?')[0] !== path)
      return refuse(socket, '404 Not Found', `websockets are served at ${path}`)
    if (server.clients.size >= most.sockets)
      return refuse(socket, '503 Service Unavailable', `this process already serves ${most.sockets} websockets`)
    try {
      checkHost(config, request.headers)
      checkOrigin(config, request.headers)
    } catch (error) {
      return refuse(socket, '403 Forbidden', error instanceof Error ? error.message : 'not allowed')
    }
    server.handleUpgrade(request, socket, head, (client) => attach(protocol, client, request, log))
  }
  app.server.on('upgrade', upgrade)
  app.addHook('preClose', async () => {
    app.server.off('upgrade', upgrade)
    const open = [...server.clients]
    const gone = open.map((client) => new Promise((resolve) => client.once('close', resolve)))
    for (const client of open) client.close(1001, 'Going away')
    const patience = setTimeout(() => open.map((client) => client.terminate()), 1000)
    await Promise.all(gone)
    clearTimeout(patience)
    server.close()
  })
}
