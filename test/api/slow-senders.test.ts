import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import Fastify from 'fastify'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { arriving, refuseSlowSenders } from '../../src/api/slow-senders.ts'

const app = Fastify({ requestTimeout: 0 })
let port: number
beforeAll(async () => {
  refuseSlowSenders(app, 200)
  app.post('/plain', async () => 'all of it')
  app.addContentTypeParser('application/x-tar', (_request, payload, done) => done(null, payload))
  app.post('/upload', { config: { upload: true } }, async ({ body }) => {
    let bytes = 0
    for await (const chunk of arriving(body as AsyncIterable<Uint8Array>, 400)) bytes += chunk.length
    return `${bytes} bytes`
  })
  app.post('/refused', { config: { upload: true } }, async ({ body }, reply) => {
    for await (const _ of body as AsyncIterable<Uint8Array>) break
    return reply.code(400).send('no')
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  port = (app.server.address() as AddressInfo).port
})
afterAll(() => app.close())

/** Sends a head that promises 10 bytes, then these pieces one after the other; returns all that is answered. */
async function send(path: string, type: string, pieces: readonly string[], pause = 0, keep = false): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  const closed = once(socket, 'close')
  let answer = ''
  socket.on('data', (bytes) => (answer += bytes))
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: x\r\n${keep ? '' : 'connection: close\r\n'}content-type: ${type}\r\ncontent-length: 10\r\n\r\n`,
  )
  for (const piece of pieces) {
    socket.write(piece)
    if (pause > 0) await new Promise((done) => setTimeout(done, pause))
  }
  await closed
  return answer
}

describe('a slow sender', () => {
  it('of a body is answered 408 and cut off', async () => {
    expect(await send('/plain', 'application/json', ['"'])).toMatch(/^HTTP\/1\.1 408/)
  })

  it('is none where the body comes', async () => {
    expect(await send('/plain', 'application/json', ['"12345678"'])).toMatch(/^HTTP\/1\.1 200[\s\S]*all of it/)
  })

  it('of an upload may take its time as long as something comes, and is answered 408 where nothing does', async () => {
    const slowly = await send('/upload', 'application/x-tar', ['12345', '678', '90'], 150)
    expect(slowly).toMatch(/^HTTP\/1\.1 200[\s\S]*10 bytes/)
    for (const keep of [true, false])
      expect(await send('/upload', 'application/x-tar', ['12345'], 0, keep)).toMatch(/^HTTP\/1\.1 408/)
  })

  it('whose upload is refused in the middle reads why and is cut off, and the server goes on', async () => {
    for (const keep of [true, false])
      expect(await send('/refused', 'application/x-tar', ['12345'], 0, keep)).toMatch(/^HTTP\/1\.1 400[\s\S]*no$/)
    // Longer than a refused sender is waited for: what then happens must not end the process.
    await new Promise((done) => setTimeout(done, 400))
    expect(await send('/plain', 'application/json', ['"12345678"'])).toMatch(/^HTTP\/1\.1 200/)
  })
})
