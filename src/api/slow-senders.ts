import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { Refused } from './failures.ts'

/** An upload of which nothing arrives for so long is given up. */
export const silenceMilliseconds = 60_000

function brings({ headers }: IncomingMessage): boolean {
  const { 'content-length': length, 'transfer-encoding': encoding } = headers
  return encoding !== undefined || (length !== undefined && length !== '0')
}

/**
 * A slow sender of a body does not hold a connection for ever: the whole of it must be there within these
 * milliseconds, except where a route watches it itself. Headers are Node's to watch.
 */
export function refuseSlowSenders(app: FastifyInstance, milliseconds: number): void {
  app.addHook('onRequest', async ({ raw, routeOptions }) => {
    if (routeOptions.config.upload || !brings(raw)) return
    // As Node itself answers whoever is too slow, and then hangs up.
    const timer = setTimeout(() => {
      raw.socket.end('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n')
      raw.socket.destroySoon()
    }, milliseconds)
    const stop = () => clearTimeout(timer)
    raw.once('end', stop).once('close', stop)
  })
  // Who was refused in the middle of an upload may still read why, while Node throws away what comes; not for ever.
  // The socket is kept from the start: a request whose body was left unread has lost it when the answer is out.
  app.addHook('onRequest', async ({ raw, routeOptions }, { raw: answer }) => {
    if (!routeOptions.config.upload) return
    const { socket } = raw
    answer.once('finish', () => {
      if (raw.complete || socket.destroyed) return
      const timer = setTimeout(() => raw.complete || socket.destroy(), milliseconds)
      socket.once('close', () => clearTimeout(timer))
      raw.once('end', () => clearTimeout(timer))
    })
  })
}

function silence(milliseconds: number, clear: { timer?: NodeJS.Timeout }): Promise<never> {
  return new Promise((_, reject) => {
    clear.timer = setTimeout(() => {
      const seconds = Math.round(milliseconds / 1000)
      reject(new Refused(408, 'too-slow', `nothing more of the body came for ${seconds} s`, 'send it again'))
    }, milliseconds)
  })
}

/** What arrives of a long body; Refused (408) where nothing more does for so many milliseconds. */
export async function* arriving(body: AsyncIterable<Uint8Array>, milliseconds: number): AsyncGenerator<Uint8Array> {
  const chunks = body[Symbol.asyncIterator]()
  const clear: { timer?: NodeJS.Timeout } = {}
  try {
    for (;;) {
      const next = await Promise.race([chunks.next(), silence(milliseconds, clear)]).finally(() =>
        clearTimeout(clear.timer),
      )
      if (next.done) return
      yield next.value
    }
  } finally {
    // Not awaited: it would wait for what does not come.
    void chunks.return?.()
  }
}
