import { request as overHttp } from 'node:http'
import { request as overHttps } from 'node:https'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

export interface Answer {
  status: number
  body: Buffer
}

/**
 * A request that may take hours, which fetch gives up after five minutes: a body as long as it is, and an answer when
 * it comes. A server that answers before it has all of the body has said what there is to say.
 */
export function send(
  address: string,
  options: { method: string; headers: Record<string, string>; body?: AsyncIterable<Uint8Array> },
): Promise<Answer> {
  const { method, headers, body } = options
  return new Promise((resolve, reject) => {
    let answered = false
    const request = (address.startsWith('https:') ? overHttps : overHttp)(address, { method, headers })
    request.on('response', async (response) => {
      answered = true
      try {
        const chunks: Buffer[] = []
        for await (const chunk of response) chunks.push(chunk as Buffer)
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) })
      } catch (error) {
        reject(error)
      } finally {
        request.destroy()
      }
    })
    const failed = (error: unknown) => {
      if (!answered) setTimeout(() => reject(error), 500) // an answer may be under way
    }
    request.on('error', failed)
    if (body)
      pipeline(Readable.from(body, { objectMode: false }), request).catch((error: unknown) => {
        // What cannot be packed is told as it is, and the server keeps nothing of an upload that breaks off.
        request.destroy()
        failed(error)
      })
    else request.end()
  })
}
