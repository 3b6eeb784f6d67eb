import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Gate, openGate } from './gate.ts'
import { definition, openWorld, type World } from './world.ts'

let world: World
beforeAll(async () => {
  world = await openWorld({ bodyLimit: 4096 })
})
afterAll(() => world.close())

/** Every failure is a problem document with a cure, and never a stack trace. */
function expectProblem(response: Awaited<ReturnType<World['send']>>, status: number, code: string) {
  expect(response.statusCode).toBe(status)
  expect(response.headers['content-type']).toBe('application/problem+json; charset=utf-8')
  const problem = response.json()
  expect(problem).toMatchObject({ status, code, type: `urn:gestalt:problem:${code}` })
  for (const key of ['title', 'detail', 'instance', 'cure']) expect(problem[key]).toMatch(/\S/)
  expect(response.body).not.toMatch(/\bat .*\.ts:\d/)
  return problem
}

describe('what bad requests get', () => {
  it('names the routes there are where none matches', async () => {
    expect(expectProblem(await world.send('/v1/nothing'), 404, 'no-such-route').cure).toContain('/docs')
  })

  it('names the methods that fit where one does not', async () => {
    const response = await world.send('/v1/experiments', undefined, { method: 'DELETE' })
    expect(expectProblem(response, 405, 'method-not-allowed').cure).toContain('GET, HEAD, POST')
    expect(response.headers.allow).toBe('GET, HEAD, POST')
  })

  it('refuses JSON that does not parse, an empty body, and bodies of another kind', async () => {
    expectProblem(await world.send('/v1/experiments', '{"version": '), 400, 'malformed-json')
    expectProblem(await world.send('/v1/experiments', ''), 400, 'malformed-json')
    const text = await world.send('/v1/experiments', 'version: 1', { headers: { 'content-type': 'text/plain' } })
    expect(expectProblem(text, 415, 'unsupported-media-type').cure).toContain('application/json')
  })

  it('refuses a body over the limit', async () => {
    const response = await world.send('/v1/experiments', definition({ notes: 'x'.repeat(5000) }))
    expect(expectProblem(response, 413, 'too-large').cure).toContain('GESTALT_BODY_LIMIT')
  })

  it('answers a NUL or a bad escape in the address with a problem', async () => {
    expectProblem(await world.send('/v1/runs/%00'), 404, 'not-found')
    expectProblem(await world.send('/v1/runs/%zz'), 400, 'malformed-request')
    expectProblem(await world.send('/v1/runs?name=%00'), 400, 'invalid-definition')
  })

  it('names every fault of a query string, coercing numbers and refusing what it does not know', async () => {
    const response = await world.send('/v1/runs?first=0&state=asleep&colour=red')
    const problem = expectProblem(response, 400, 'invalid-request')
    const pointers = problem.errors.map((fault: { pointer: string }) => fault.pointer)
    expect(pointers).toEqual(expect.arrayContaining(['/first', '/colour', '/state/0']))
    expect((await world.send('/v1/runs?first=5&state=queued')).statusCode).toBe(200)
  })

  it('refuses instants that a calendar knows and the database does not, and cursors that somebody made', async () => {
    const key = ['createdAt', 'desc', 'tomorrow', '01900000-0000-7000-8000-000000000000']
    const after = Buffer.from(JSON.stringify(key)).toString('base64url')
    for (const list of ['/v1/runs', '/v1/experiments']) {
      const instant = await world.send(`${list}?createdAfter=0000-01-01T00:00:00Z`)
      expect(expectProblem(instant, 400, 'invalid-definition').errors[0].pointer).toBe('/createdAfter')
      const cursor = await world.send(`${list}?after=${after}`)
      expect(expectProblem(cursor, 400, 'invalid-definition').errors[0].pointer).toBe('/after')
    }
    const { errors } = await world.query('query ($after: String) { runs(after: $after) { totalCount } }', { after })
    expect(errors).toMatchObject([{ extensions: { code: 'invalid-definition', errors: [{ pointer: '/after' }] } }])
    const early = await world.query('{ runs(filter: { createdBefore: "0000-01-01" }) { totalCount } }')
    expect(early.errors).toMatchObject([{ extensions: { errors: [{ pointer: '/createdBefore' }] } }])
  })

  it('hides a defect of ours and tells the log', async () => {
    await world.parts.database.pool.query('ALTER TABLE run_log RENAME TO elsewhere')
    try {
      const id = '01900000-0000-7000-8000-000000000000'
      await world.parts.database.pool.query(
        `INSERT INTO experiments (id, name, tags, notes, priority, definition, plan) VALUES ($1, 'x', '{}', '', 0, '{}', '{}')`,
        [id],
      )
      await world.parts.database.pool.query(
        `INSERT INTO runs (id, experiment_id, name, priority, definition) VALUES ($1, $1, 'x', 0, '{}')`,
        [id],
      )
      const response = await world.send(`/v1/runs/${id}/log`)
      expectProblem(response, 500, 'internal')
      expect(response.body).not.toMatch(/run_log|relation/)
      const { data, errors } = await world.query(`{ run(id: "${id}") { name log { text } } }`)
      expect(data).toEqual({ run: null })
      expect(errors).toMatchObject([{ extensions: { code: 'internal' }, path: ['run', 'log'] }])
      expect(JSON.stringify(errors)).not.toMatch(/run_log|relation/)
    } finally {
      await world.parts.database.pool.query('ALTER TABLE elsewhere RENAME TO run_log')
    }
  })
})

describe('while Postgres is away', () => {
  let gate: Gate
  let away: World
  beforeAll(async () => {
    gate = await openGate(world.parts.config.databaseUrl!)
    away = await openWorld({ databaseUrl: gate.url })
  })
  afterAll(async () => {
    await gate.open()
    await away.close()
    await gate.close()
  })

  it('answers 503 with a cure, is alive but not ready, and recovers by itself', async () => {
    expect((await away.send('/readyz')).statusCode).toBe(200)
    await gate.shut()
    const response = await away.send('/v1/runs')
    expectProblem(response, 503, 'unavailable')
    expect(response.body).not.toMatch(/prisma|\\n|\.ts/)
    expect(response.headers['retry-after']).toBe('2')
    expectProblem(await away.send('/v1/experiments', definition()), 503, 'unavailable')
    expect((await away.send('/livez')).statusCode).toBe(200)
    expectProblem(await away.send('/readyz'), 503, 'unavailable')
    const { errors } = await away.query('{ runs { totalCount } }')
    expect(errors).toMatchObject([{ extensions: { code: 'unavailable' } }])
    expect(JSON.stringify(errors)).not.toMatch(/prisma|\\n|\.ts/)
    await gate.open()
    expect((await away.send('/v1/runs')).statusCode).toBe(200)
    expect((await away.send('/v1/runs')).json()).toMatchObject({ items: [expect.anything()] })
  })
})
