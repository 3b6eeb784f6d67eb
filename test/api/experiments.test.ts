import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually } from '../eventually.ts'
import { openGate } from './gate.ts'
import { definition, openWorld, type World } from './world.ts'

let world: World
beforeAll(async () => {
  world = await openWorld()
})
afterAll(() => world.close())

const count = async () => (await world.query('{ experiments { totalCount } }')).data.experiments.totalCount as number

describe('POST /v1/experiments', () => {
  it('answers 202 with ids and a location once the rows are there, and the queue hears of the run', async () => {
    const response = await world.send('/v1/experiments', definition({ name: 'accepted' }))
    expect(response.statusCode).toBe(202)
    const { experimentId, runIds } = response.json()
    expect(response.headers.location).toBe(`/v1/experiments/${experimentId}`)
    const shown = await world.send(response.headers.location as string)
    expect(shown.json()).toMatchObject({
      id: experimentId,
      name: 'accepted',
      runs: [{ id: runIds[0], state: 'queued' }],
    })
    expect(shown.json().definition.training.checkpointEverySteps).toBeTypeOf('number')
    await eventually(async () => expect(await world.parts.queue.has({ runId: runIds[0], attempt: 0 })).toBe(true))
  })

  it('names all faults at once with pointers and cures, keeps nothing, and changes nothing it was sent', async () => {
    const before = await count()
    const bad = definition({ colour: 'red', method: { name: 'npdi' }, net: { name: 'small', widths: ['16', 32, 64] } })
    const response = await world.send('/v1/experiments', bad)
    expect(response.statusCode).toBe(400)
    const { code, errors } = response.json()
    expect(code).toBe('invalid-definition')
    const pointers = errors.map((fault: { pointer: string }) => fault.pointer)
    expect(pointers).toEqual(expect.arrayContaining(['/colour', '/method/name', '/net/widths/0']))
    expect(JSON.stringify(errors)).toContain('npid')
    expect(await count()).toBe(before)
  })

  it('refuses pairs that cannot be and datasets that are not there', async () => {
    const tooFew = definition({ dataset: { name: 'shapes', images: 16, testImages: 16 } })
    const response = await world.send('/v1/experiments', tooFew)
    expect(response.statusCode).toBe(400)
    expect(response.json().errors[0].pointer).toBe('/training/batchSize')
    const nowhere = await world.send('/v1/experiments', definition({ resources: { gpu: true, engine: 'wasm' } }))
    expect(nowhere.json().errors).toMatchObject([{ pointer: '/resources/engine' }])
  })

  it.each([
    ['null', 400],
    ['[]', 400],
    ['"text"', 400],
    ['3', 400],
  ])('refuses %s as a body', async (body, status) => {
    const response = await world.send('/v1/experiments', body)
    expect(response.statusCode).toBe(status)
    expect(response.json().errors.length).toBeGreaterThan(0)
  })

  it('answers a dry run with the plan and keeps nothing', async () => {
    const before = await count()
    const response = await world.send('/v1/experiments?dryRun=true', definition())
    expect(response.statusCode).toBe(200)
    expect(response.json()).toMatchObject({
      runs: 1,
      images: { train: 256, test: 64 },
      steps: 16,
      definition: { seed: 0 },
    })
    expect(response.json().weights).toBeGreaterThan(0)
    expect(await count()).toBe(before)
    expect((await world.send('/v1/experiments?dryRun=perhaps', definition())).statusCode).toBe(400)
  })

  it('plans on images that are only declared, and does not take them for a run', async () => {
    const before = await count()
    const dataset = {
      name: 'declared',
      of: 'ImageNet',
      images: 1_281_167,
      testImages: 9,
      classes: 1000,
      height: 224,
      width: 224,
    }
    const planned = await world.send('/v1/experiments?dryRun=true', definition({ dataset, evaluations: [] }))
    expect(planned.json()).toMatchObject({ images: { train: 1_281_167, test: 9 }, imageShape: [224, 224, 3] })
    const refused = await world.send('/v1/experiments', definition({ dataset, evaluations: [] }))
    expect(refused.statusCode).toBe(400)
    expect(refused.json().errors).toEqual([
      { pointer: '/dataset/name', detail: expect.stringMatching(/can be planned, not run; add the images/) },
    ])
    expect(await count()).toBe(before)
  })

  it('takes the run though the queue is away', async () => {
    const gate = await openGate(world.parts.config.databaseUrl!)
    const away = await openWorld({ databaseUrl: world.parts.config.databaseUrl }, { queueUrl: gate.url })
    try {
      await gate.shut()
      const response = await away.send('/v1/experiments', definition({ name: 'unqueued' }))
      expect(response.statusCode).toBe(202)
      expect((await away.send(response.headers.location as string)).json().runs[0].state).toBe('queued')
    } finally {
      await gate.open()
      await away.close()
      await gate.close()
    }
  })
})

describe('Idempotency-Key', () => {
  const post = (key: string, body: unknown) =>
    world.send('/v1/experiments', body, { method: 'POST', headers: { 'idempotency-key': key } })

  it('answers the same request the same way, in any order of keys, and adds nothing', async () => {
    const first = await post('same', definition({ name: 'once' }))
    expect(first.statusCode).toBe(202)
    const before = await count()
    const turned = Object.fromEntries(Object.entries(definition({ name: 'once' })).reverse())
    const second = await post('same', turned)
    expect(second.statusCode).toBe(202)
    expect(second.json()).toEqual(first.json())
    expect(second.headers['idempotency-replayed']).toBe('true')
    expect(await count()).toBe(before)
  })

  it('refuses the key for another definition with 422, and one that is no key with 400', async () => {
    await post('mine', definition({ name: 'one' }))
    const response = await post('mine', definition({ name: 'another' }))
    expect(response.statusCode).toBe(422)
    expect(response.json()).toMatchObject({ code: 'key-reused', cure: expect.stringContaining('new key') })
    expect((await post('a b', definition())).statusCode).toBe(400)
  })

  it('makes one experiment of many requests at once', async () => {
    const responses = await Promise.all(Array.from({ length: 5 }, () => post('rush', definition({ name: 'rush' }))))
    const statuses = responses.map(({ statusCode }) => statusCode).sort()
    expect(statuses.filter((status) => status === 202).length).toBeGreaterThanOrEqual(1)
    expect(statuses.every((status) => status === 202 || status === 409)).toBe(true)
    const ids = new Set(responses.filter((r) => r.statusCode === 202).map((r) => r.json().experimentId))
    expect(ids.size).toBe(1)
    expect(responses.find((r) => r.statusCode === 409)?.json().cure).toContain('wait')
    const { data } = await world.query('{ experiments(filter: { name: "rush" }) { totalCount } }')
    expect(data.experiments.totalCount).toBe(1)
  })
})

describe('GET /v1/experiments', () => {
  it('pages by keys and follows Link to the end, each row once', async () => {
    for (const name of ['page-a', 'page-b', 'page-c', 'page-d', 'page-e'])
      await world.send('/v1/experiments', definition({ name, tags: ['paged'] }))
    const seen: string[] = []
    let url: string | undefined = '/v1/experiments?first=2&tag=paged&order=name'
    while (url) {
      const page = await world.send(url)
      seen.push(...page.json().items.map(({ name }: { name: string }) => name))
      url = /^<([^>]+)>; rel="next"$/.exec(String(page.headers.link ?? ''))?.[1]
      expect(Boolean(url)).toBe(page.json().next !== null)
    }
    expect(seen).toEqual(['page-a', 'page-b', 'page-c', 'page-d', 'page-e'])
  })

  it('finds by part of the name, method and dataset, newest first', async () => {
    const { items } = (await world.send('/v1/experiments?name=PAGE-&method=npid&dataset=shapes')).json()
    expect(items.map(({ name }: { name: string }) => name)).toEqual(['page-e', 'page-d', 'page-c', 'page-b', 'page-a'])
    expect((await world.send('/v1/experiments?name=%25')).json().items).toEqual([])
    expect((await world.send('/v1/experiments?createdAfter=2100-01-01T00:00:00Z')).json().items).toEqual([])
    expect((await world.send('/v1/experiments?createdAfter=tomorrow')).statusCode).toBe(400)
    expect((await world.send('/v1/experiments?after=nonsense')).statusCode).toBe(400)
  })

  it.each(['01900000-0000-7000-8000-000000000000', 'nonsense'])('knows no experiment %s', async (id) => {
    const response = await world.send(`/v1/experiments/${id}`)
    expect(response.statusCode).toBe(404)
    expect(response.json().cure).toBe('GET /v1/experiments lists those there are')
  })
})

describe('what a definition may name', () => {
  it.each(['methods', 'nets', 'datasets', 'evaluations'])('lists %s with their parameters', async (kind) => {
    const { items } = (await world.send(`/v1/${kind}`)).json()
    expect(items.length).toBeGreaterThan(0)
    for (const item of items) expect(item).toMatchObject({ name: expect.any(String), parameters: { type: 'object' } })
  })
})
