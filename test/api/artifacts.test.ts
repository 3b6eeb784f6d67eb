import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newId } from '../../src/store/id.ts'
import { acceptRun, openWorld, type World } from './world.ts'

let world: World
let url: string
const id = newId()
const text = 'a picture of nothing'
const checkpointId = newId()

beforeAll(async () => {
  world = await openWorld()
  const { objects, database } = world.parts
  const runId = await acceptRun(world.parts)
  const { key, size, sha256 } = await objects.put('runs/1/picture', Buffer.from(text), { type: 'text/html' })
  await database.pool.query(
    `INSERT INTO artifacts (id, run_id, attempt, name, type, key, size, sha256) VALUES ($1, $2, 1, $3, $4, $5, $6, $7)`,
    [id, runId, 'folder/Bild "ä".txt', 'text/html', key, size, sha256],
  )
  url = `/v1/artifacts/${id}`
  await database.pool.query(
    `INSERT INTO checkpoints (id, run_id, attempt, step, final, key, size, sha256) VALUES ($1, $2, 1, 40, true, $3, $4, $5)`,
    [checkpointId, runId, key, size, sha256],
  )
})
afterAll(() => world.close())

const get = (headers: Record<string, string> = {}) => world.send(url, undefined, { headers })

describe('GET /v1/artifacts/:id', () => {
  it('sends the whole file so that no browser runs it', async () => {
    const response = await get()
    expect(response.statusCode).toBe(200)
    expect(response.body).toBe(text)
    expect(response.headers).toMatchObject({
      'content-type': 'text/html',
      'content-length': '20',
      'accept-ranges': 'bytes',
      'x-content-type-options': 'nosniff',
      'content-security-policy': "default-src 'none'; sandbox",
      'content-disposition': `attachment; filename="Bild ___.txt"; filename*=UTF-8''Bild%20%22%C3%A4%22.txt`,
      etag: expect.stringMatching(/^"[0-9a-f]{64}"$/),
    })
  })

  it.each([
    ['bytes=0-0', 'a', '0-0'],
    ['bytes=2-8', 'picture', '2-8'],
    ['bytes=13-', 'nothing', '13-19'],
    ['bytes=-7', 'nothing', '13-19'],
    ['bytes=-100', text, '0-19'],
    ['bytes=13-1000', 'nothing', '13-19'],
  ])('sends the range %s', async (range, body, sent) => {
    const response = await get({ range })
    expect(response.statusCode).toBe(206)
    expect(response.body).toBe(body)
    expect(response.headers['content-range']).toBe(`bytes ${sent}/20`)
    expect(response.headers['content-length']).toBe(String(body.length))
  })

  it.each(['bytes=20-', 'bytes=1000-2000', 'bytes=-0'])('refuses the range %s with the size', async (range) => {
    const response = await get({ range })
    expect(response.statusCode).toBe(416)
    expect(response.headers['content-range']).toBe('bytes */20')
    expect(response.headers['content-type']).toContain('application/problem+json')
  })

  it.each(['bytes=5-2', 'bytes=0-1,3-4', 'lines=1-2', 'bytes=a-b'])('sends the whole for %s', async (range) => {
    expect((await get({ range })).statusCode).toBe(200)
  })

  it('spares a caller that has it, and sends the whole where the range is of another file', async () => {
    const etag = String((await get()).headers.etag)
    const spared = await get({ 'if-none-match': `"x", W/${etag}` })
    expect([spared.statusCode, spared.body]).toEqual([304, ''])
    expect((await get({ range: 'bytes=0-0', 'if-range': etag })).statusCode).toBe(206)
    expect((await get({ range: 'bytes=0-0', 'if-range': '"x"' })).statusCode).toBe(200)
  })

  it('answers HEAD without a body', async () => {
    const response = await world.send(url, undefined, { method: 'HEAD' })
    expect([response.statusCode, response.body, response.headers['content-length']]).toEqual([200, '', '20'])
  })

  it('knows no other', async () => {
    expect((await world.send(`/v1/artifacts/${newId()}`)).json().code).toBe('not-found')
    expect((await world.send('/v1/artifacts/nonsense')).statusCode).toBe(404)
  })
})

describe('GET /objects/*', () => {
  it('serves what was signed, for its time and to nobody else', async () => {
    const { objects } = world.parts
    const link = new URL(await objects.link('runs/1/picture', { seconds: 60, name: 'b.txt', type: 'text/plain' }))
    const path = link.pathname + link.search
    const response = await world.send(path)
    expect([response.statusCode, response.body]).toEqual([200, text])
    expect(response.headers['content-disposition']).toContain('attachment; filename="b.txt"')
    expect((await world.send(path, undefined, { headers: { range: 'bytes=0-0' } })).body).toBe('a')
    for (const broken of [
      path.replace('60', '61').replace(/expires=\d+/, 'expires=9999999999'),
      link.pathname,
      `${path}0`,
    ])
      expect((await world.send(broken)).json()).toMatchObject({ status: 403, code: 'bad-link' })
    const other = await objects.link('runs/1/none', { seconds: 60 })
    expect((await world.send(other.replace(/^https?:\/\/[^/]+/, ''))).statusCode).toBe(404)
  })
})

describe('GET /v1/checkpoints/:id', () => {
  it('sends a checkpoint under a name that tells its run and step, from the addresses that REST and GraphQL give', async () => {
    const { items } = (await world.send('/v1/runs')).json()
    const listed = (await world.send(`/v1/runs/${items[0].id}`)).json().checkpoints
    expect(listed).toMatchObject([{ id: checkpointId, step: 40, final: true, url: `/v1/checkpoints/${checkpointId}` }])
    const query = `{ run(id: "${items[0].id}") { checkpoints { step url } } }`
    const asked = (await world.send('/graphql', { query })).json().data.run.checkpoints
    expect(asked).toEqual([{ step: 40, url: expect.stringMatching(new RegExp(`^http.*${listed[0].url}$`)) }])
    const response = await world.send(listed[0].url, undefined, { headers: { range: 'bytes=2-8' } })
    expect([response.statusCode, response.body]).toEqual([206, 'picture'])
    expect(response.headers['content-disposition']).toContain(`filename="${items[0].id}-step-40.safetensors"`)
  })

  it('knows no other', async () => {
    for (const other of [newId(), 'nonsense'])
      expect((await world.send(`/v1/checkpoints/${other}`)).statusCode).toBe(404)
  })
})
