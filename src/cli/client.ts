import { createClient } from 'graphql-ws'
import { WebSocket } from 'ws'
import { Conflict, GestaltError, InvalidDefinition, NotFound, TooLarge, Unauthorized, Unavailable } from '../errors.ts'
import { send } from './sending.ts'

/** What the server said was wrong, as RFC 9457 has it. */
interface Problem {
  title?: string
  detail?: string
  cure?: string
  errors?: { pointer: string; detail: string }[]
}

/** Speaks to a server as any other client would: HTTP, GraphQL, subscriptions over graphql-transport-ws. */
export interface Client {
  url: string
  get<T>(path: string): Promise<T>
  post<T>(path: string, body: unknown): Promise<T>
  /** The bytes of an answer, however long it takes. */
  bytes(path: string, method?: 'GET' | 'POST' | 'DELETE'): Promise<Uint8Array>
  /** Sends a body of any length as it comes. */
  upload<T>(path: string, type: string, body: AsyncIterable<Uint8Array>): Promise<T>
  /** A file, as it comes. */
  download(path: string): Promise<AsyncIterable<Uint8Array>>
  remove(path: string): Promise<void>
  query<T>(document: string, variables?: Record<string, unknown>): Promise<T>
  /** Reconnects by itself; the server sends the present state first. Ends when the server completes it. */
  subscribe<T>(document: string, variables: Record<string, unknown>): AsyncIterable<T>
  close(): Promise<void>
}

/** One error of a GraphQL answer; its extensions say what a problem of REST would. */
interface GraphqlError {
  message: string
  extensions?: Problem & { code?: string }
}

const statusOfCode: Record<string, number> = { unauthorized: 401, 'not-found': 404, conflict: 409, unavailable: 503 }

function refusal(status: number, problem: Problem): Error {
  const what = problem.detail ?? problem.title ?? `the server answered ${status}`
  const cure = problem.cure ?? 'see the API documentation at /docs'
  if (status === 401) return new Unauthorized(what, 'set GESTALT_TOKEN to the token of the server')
  if (problem.errors?.length) return new InvalidDefinition(problem.errors, /^(.+?) has (a|\d+) faults?/.exec(what)?.[1])
  if (status === 404) return new NotFound(what, cure)
  if (status === 409) return new Conflict(what, cure)
  if (status === 413) return new TooLarge(what, cure)
  if (status >= 500) return new Unavailable(what, cure)
  return new InvalidDefinition([{ pointer: '', detail: what }], 'the request')
}

function graphqlRefusal({ message, extensions }: GraphqlError, status = 400): Error {
  return refusal(statusOfCode[extensions?.code ?? ''] ?? status, { detail: message, ...extensions })
}

/** GraphQL and REST word a refusal each in their own form. */
function answeredRefusal(status: number, body: Problem | { errors?: GraphqlError[] }): Error {
  const [first] = body.errors ?? []
  return first && 'message' in first ? graphqlRefusal(first, status) : refusal(status, body as Problem)
}

export function openClient(options: { url: string; token: string | undefined }): Client {
  const url = options.url.replace(/\/$/, '')
  const authorization: Record<string, string> = options.token ? { authorization: `Bearer ${options.token}` } : {}
  const unreachable = (cause: unknown) => {
    if (cause instanceof GestaltError) return cause
    const cure = "start one with 'gestalt up', or name another with --url or GESTALT_URL"
    return new Unavailable(`no server answers at ${url}`, cure, { cause })
  }
  /** Without the limits of fetch. */
  const patiently = async (path: string, options: Parameters<typeof send>[1]): Promise<Buffer> => {
    const headers = { ...authorization, ...options.headers }
    const { status, body } = await send(`${url}${path}`, { ...options, headers }).catch((error: unknown) => {
      throw unreachable(error)
    })
    if (status < 400) return body
    let problem: Problem = {}
    try {
      problem = JSON.parse(body.toString()) as Problem
    } catch {} // no answer of ours
    throw answeredRefusal(status, problem)
  }
  const ask = async (path: string, init: RequestInit = {}): Promise<Response> => {
    const headers = new Headers({ accept: 'application/json', ...authorization })
    if (init.body) headers.set('content-type', 'application/json')
    for (const [name, value] of Object.entries(init.headers ?? {})) headers.set(name, value)
    const response = await fetch(`${url}${path}`, { ...init, headers }).catch((cause: unknown) => {
      throw unreachable(cause)
    })
    if (response.ok) return response
    throw answeredRefusal(response.status, (await response.json().catch(() => ({}))) as Problem)
  }
  const sendJson = <T>(path: string, body: unknown) => request<T>(path, { method: 'POST', body: JSON.stringify(body) })
  const request = async <T>(path: string, init: RequestInit = {}): Promise<T> =>
    (await (await ask(path, init)).json().catch(() => ({}))) as T
  const socket = createClient({
    url: `${url.replace(/^http/, 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    connectionParams: authorization,
    lazy: true,
    retryAttempts: 20,
    shouldRetry: () => true,
  })
  return {
    url,
    get: (path) => request(path),
    post: sendJson,
    bytes: (path, method = 'GET') => patiently(path, { method, headers: {} }),
    async upload<T>(path: string, type: string, body: AsyncIterable<Uint8Array>) {
      const answer = await patiently(path, { method: 'POST', headers: { 'content-type': type }, body })
      return JSON.parse(answer.toString()) as T
    },
    async download(path) {
      const { body } = await ask(path, { headers: { accept: 'application/octet-stream, application/problem+json' } })
      return (body ?? []) as AsyncIterable<Uint8Array>
    },
    remove: async (path) => void (await ask(path, { method: 'DELETE' })),
    async query<T>(document: string, variables: Record<string, unknown> = {}) {
      type Answer = { data?: T; errors?: GraphqlError[] }
      const answer = await sendJson<Answer>('/graphql', { query: document, variables })
      const [first] = answer.errors ?? []
      if (first) throw graphqlRefusal(first)
      return answer.data as T
    },
    async *subscribe<T>(document: string, variables: Record<string, unknown>) {
      for await (const message of socket.iterate<T>({ query: document, variables })) {
        const [first] = message.errors ?? []
        if (first) throw graphqlRefusal({ message: first.message, extensions: first.extensions as Problem })
        if (message.data) yield message.data as T
      }
    },
    close: async () => socket.dispose(),
  }
}
