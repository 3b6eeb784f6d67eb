import { createClient } from 'graphql-ws'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { openWorld, type World } from './world.ts'

const token = 'a-token-of-some-length'
let world: World
let address: string
beforeAll(async () => {
  world = await openWorld({ token })
  address = await world.listen()
})
afterAll(() => world.close())

const withToken = (authorization: string) => ({ headers: { authorization } })

/** How a socket with these connection parameters ends: with data, or with the code it was closed with. */
function ask(connectionParams: Record<string, unknown> | undefined, headers: Record<string, string> = {}) {
  class Socket extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols, { headers })
    }
  }
  const client = createClient({
    url: `${address.replace('http', 'ws')}/graphql`,
    webSocketImpl: Socket,
    connectionParams,
    retryAttempts: 0,
  })
  return new Promise<unknown>((resolve) => {
    let data: unknown
    const done = (value: unknown) => {
      resolve(value)
      void client.dispose()
    }
    client.subscribe(
      { query: '{ queue { waiting } }' },
      {
        next: (value) => {
          data = value.data
        },
        error: (error) => done((error as { code?: number }).code ?? String((error as Error).message)),
        complete: () => done(data),
      },
    )
  })
}

describe('the token', () => {
  it.each(['/v1/runs', '/v1/methods', '/nothing', '/graphql?query={queue{waiting}}', '/v1/artifacts/x'])(
    'is asked for at %s',
    async (path) => {
      const response = await world.send(path)
      expect(response.statusCode).toBe(401)
      expect(response.headers['www-authenticate']).toContain('Bearer')
      expect(response.body).not.toContain(token)
      for (const wrong of ['Bearer wrong', `Basic ${token}`, token, `Bearer ${token}x`, 'Bearer', `Bearer ${token} x`])
        expect((await world.send(path, undefined, withToken(wrong))).statusCode).toBe(401)
      expect((await world.send(path, undefined, withToken(`Bearer ${token}`))).statusCode).not.toBe(401)
    },
  )

  it('is asked for at every documented route but the probes', async () => {
    const { paths } = (await world.send('/openapi.json')).json() as { paths: Record<string, object> }
    const asked = Object.entries(paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => ({ path: path.replace(/\{\w+\}/g, 'x'), method: method.toUpperCase() })),
    )
    expect(asked.length).toBeGreaterThan(12)
    for (const { path, method } of asked) {
      const { statusCode } = await world.app.inject({
        method: method as 'GET',
        url: path,
        headers: { host: '127.0.0.1' },
      })
      expect([method, path, statusCode]).toEqual([method, path, /^\/(livez|readyz)$/.test(path) ? 200 : 401])
    }
  })

  it('is asked for by GraphQL in its own words, and nowhere taken from the address', async () => {
    const response = await world.send('/graphql', { query: '{ queue { waiting } }' })
    expect(response.statusCode).toBe(401)
    expect(response.json()).toMatchObject({
      errors: [{ extensions: { code: 'unauthorized', cure: expect.any(String) } }],
    })
    expect(response.json()).not.toHaveProperty('data')
    expect((await world.send(`/v1/runs?access_token=${token}`)).statusCode).toBe(401)
  })

  it.each(['/livez', '/readyz', '/graphiql', '/docs', '/openapi.json', '/graphiql/playground.js'])(
    'is not asked for at %s',
    async (path) => {
      expect((await world.send(path)).statusCode).toBe(200)
    },
  )

  it('opens a websocket by connection parameters or a header, and closes it with 4403 otherwise', async () => {
    const data = { queue: { waiting: 0 } }
    expect(await ask({ authorization: `Bearer ${token}` })).toEqual(data)
    expect(await ask({ token })).toEqual(data)
    expect(await ask(undefined, { authorization: `Bearer ${token}` })).toEqual(data)
    expect(await ask(undefined)).toBe(4403)
    expect(await ask({ token: 'wrong' })).toBe(4403)
    expect(await ask({ token: 3 }, { authorization: 'Bearer wrong' })).toBe(4403)
  })
})

describe('pages of others', () => {
  let open: World
  let openAddress: string
  beforeAll(async () => {
    open = await openWorld()
    openAddress = await open.listen()
  })
  afterAll(() => open.close())

  it('cannot use a name of their own for this server', async () => {
    for (const host of ['evil.example', 'evil.example:4000', '127.0.0.1.evil.example'])
      expect((await open.send('/v1/runs', undefined, { headers: { host } })).json()).toMatchObject({
        code: 'wrong-host',
      })
    for (const host of ['localhost:4000', '127.0.0.1', '[::1]:4000', '127.1.2.3:80'])
      expect((await open.send('/v1/runs', undefined, { headers: { host } })).statusCode).toBe(200)
  })

  it('cannot make a browser change anything', async () => {
    const headers = { host: '127.0.0.1:4000', origin: 'http://evil.example' }
    const cancel = await open.send('/v1/runs/x/cancel', undefined, { method: 'POST', headers })
    expect(cancel.json()).toMatchObject({ status: 403, code: 'wrong-origin' })
    const own = { ...headers, origin: 'http://127.0.0.1:4000' }
    expect((await open.send('/v1/runs/x/cancel', undefined, { method: 'POST', headers: own })).statusCode).toBe(404)
  })

  it.each([
    ['evil origin', '/graphql', { origin: 'http://evil.example' }, 403],
    ['evil host', '/graphql', { host: 'evil.example' }, 403],
    ['another path', '/elsewhere', {}, 404],
  ])('cannot open a websocket (%s)', async (_title, path, headers, status) => {
    const socket = new WebSocket(openAddress.replace('http', 'ws') + path, 'graphql-transport-ws', { headers })
    const code = await new Promise((resolve) => {
      socket.on('error', () => {})
      socket.on('unexpected-response', (_request, response) => {
        resolve(response.statusCode)
        socket.terminate()
      })
      socket.on('open', () => resolve('open'))
    })
    expect(code).toBe(status)
  })

  it('find headers that keep browsers careful', async () => {
    const { headers } = await open.send('/v1/runs')
    expect(headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-store',
      'x-request-id': expect.stringMatching(/\S/),
    })
  })
})
