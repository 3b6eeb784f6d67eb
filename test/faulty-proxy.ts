import { once } from 'node:events'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { S3Config } from '../src/config.ts'

/** What goes wrong with a request; without a fault it passes. */
export interface Fault {
  /** It is answered so by the proxy; the server hears nothing of it. */
  answer?: number
  /** What S3 calls such an answer. */
  code?: string
  /** It is kept for so many milliseconds before the server hears of it. */
  delay?: number
  /** It is never answered. */
  silence?: boolean
  /** Its answer comes so many bytes at a time, with pauses of so many milliseconds. */
  drip?: { bytes: number; pause: number }
  /** It loses its connection, and the server too, after so many bytes of its body. */
  cutRequest?: number
  /** It loses its connection after so many bytes of the answer's body. */
  cutAnswer?: number
  /** It is done by the server, and nobody learns of it. */
  lostAnswer?: boolean
}

/** A request as it came by. */
export interface Passing {
  method: string
  /** Without the bucket. */
  key: string
  query: URLSearchParams
  headers: http.IncomingHttpHeaders
  fault: Fault | undefined
}

export interface FaultyProxy {
  /** The settings of the server behind it, by way of the proxy. */
  config: S3Config
  /** All that came by. */
  seen: Passing[]
  /** Decides for each request; undefined: all goes well. */
  faults: ((request: Omit<Passing, 'fault'>) => Fault | undefined) | undefined
  close(): void
}

/** Sends a body on in small pieces. */
async function dripped(
  answer: IncomingMessage,
  response: ServerResponse,
  { bytes, pause }: NonNullable<Fault['drip']>,
) {
  for await (const chunk of answer as AsyncIterable<Buffer>)
    for (let at = 0; at < chunk.length && !response.destroyed; at += bytes) {
      response.write(chunk.subarray(at, at + bytes))
      await sleep(pause)
    }
  response.end()
}

/** Sends the beginning of a body on, then `cut` is called. */
async function cutAfter(bytes: number, from: IncomingMessage, to: NodeJS.WritableStream, cut: () => void) {
  let left = bytes
  for await (const chunk of from as AsyncIterable<Buffer>) {
    to.write(chunk.subarray(0, left))
    left -= chunk.length
    if (left <= 0) break
  }
  // What was sent before must arrive before the cut does.
  await sleep(20)
  cut()
}

function refuse(request: IncomingMessage, response: ServerResponse, status: number, code: string): void {
  request.resume()
  request.on('end', () => {
    const body = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>by the proxy</Message></Error>`
    response.writeHead(status, { 'content-type': 'application/xml' })
    response.end(request.method === 'HEAD' ? undefined : body)
  })
}

/**
 * Stands in front of an S3 server and does to each request what it is told. The header that names the host goes on as
 * it came, so that signatures made for the proxy hold.
 */
export async function startFaultyProxy(server: S3Config): Promise<FaultyProxy> {
  const agent = new http.Agent({ keepAlive: true })
  const proxy: FaultyProxy = { config: server, seen: [], faults: undefined, close }

  async function pass(request: IncomingMessage, response: ServerResponse, fault: Fault): Promise<void> {
    const { answer, code = 'InternalError', delay, silence, drip, cutRequest, cutAnswer, lostAnswer } = fault
    if (answer) return refuse(request, response, answer, code)
    if (silence) return void request.resume()
    if (delay) await sleep(delay)
    const { method, url: path, headers, socket } = request
    const upstream = http.request({ host: server.endPoint, port: server.port, method, path, headers, agent })
    const cut = () => {
      upstream.destroy()
      socket.destroy()
    }
    upstream.on('error', cut)
    request.on('error', cut)
    upstream.on('response', (answer) => {
      answer.on('error', cut)
      if (lostAnswer) return void answer.resume().on('end', cut)
      response.writeHead(answer.statusCode!, answer.headers)
      if (drip) dripped(answer, response, drip).catch(cut)
      else if (cutAnswer !== undefined) cutAfter(cutAnswer, answer, response, cut).catch(cut)
      else answer.pipe(response)
    })
    if (cutRequest === undefined) request.pipe(upstream)
    else await cutAfter(cutRequest, request, upstream, cut)
  }

  const listener = http.createServer((request, response) => {
    const url = new URL(request.url!, 'http://proxy')
    const key = decodeURIComponent(url.pathname).split('/').slice(2).join('/')
    const passing = { method: request.method!, key, query: url.searchParams, headers: request.headers }
    const fault = proxy.faults?.(passing)
    proxy.seen.push({ ...passing, fault })
    const { socket } = request
    pass(request, response, fault ?? {}).catch(() => socket.destroy())
  })
  function close() {
    listener.close()
    listener.closeAllConnections()
    agent.destroy()
  }
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  proxy.config = { ...server, endPoint: '127.0.0.1', port: (listener.address() as AddressInfo).port }
  return proxy
}

/** Does a fault to the first so many requests that match. */
export function times(
  count: number,
  matches: (request: Omit<Passing, 'fault'>) => boolean,
  fault: Fault,
): NonNullable<FaultyProxy['faults']> {
  let left = count
  return (request) => (matches(request) && left-- > 0 ? fault : undefined)
}
