import { Agent, request } from 'node:http'

export interface Answer {
  status: number
  text: string
}

/** A plain client on sockets that stay open: what it costs beside the server is small and the same for all. */
export interface Client {
  send(method: 'GET' | 'POST', path: string, body?: unknown): Promise<Answer>
  close(): void
}

export function openClient(url: string, sockets = 16): Client {
  const agent = new Agent({ keepAlive: true, maxSockets: sockets })
  return {
    send: (method, path, body) =>
      new Promise((done, fail) => {
        const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
        const headers = payload && { 'content-type': 'application/json', 'content-length': payload.length }
        const sent = request(new URL(path, url), { method, agent, headers }, (response) => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('error', fail)
          response.on('end', () => done({ status: response.statusCode!, text: Buffer.concat(chunks).toString() }))
        })
        sent.on('error', fail)
        sent.end(payload)
      }),
    close: () => agent.destroy(),
  }
}

/** The answer of a request that must succeed. */
export async function expectStatus(status: number, answer: Promise<Answer>): Promise<string> {
  const { status: got, text } = await answer
  if (got !== status) throw new Error(`the server answers ${got}, not ${status}: ${text.slice(0, 500)}`)
  return text
}

/** Sends `count` requests with so many in flight; returns how many a second were answered. */
export async function rate(count: number, inFlight: number, send: (n: number) => Promise<unknown>): Promise<number> {
  let next = 0
  const began = performance.now()
  const lane = async () => {
    while (next < count) await send(next++)
  }
  await Promise.all(Array.from({ length: inFlight }, lane))
  return count / ((performance.now() - began) / 1000)
}
