import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { offerOf } from '../../../src/experiments/placement.ts'
import { newId } from '../../../src/store/id.ts'
import { appendPoints } from '../../../src/store/metrics.ts'
import { type Answer, acceptRun, definition, openWorld, type World } from '../world.ts'

let world: World
const runIds: string[] = []

beforeAll(async () => {
  world = await openWorld()
  const { ledger, database } = world.parts
  for (let i = 0; i < 50; i++) runIds.push(await acceptRun(world.parts, `run ${String(i).padStart(2, '0')}`))
  const time = new Date('2026-01-31T12:00:00Z')
  for (const runId of runIds) {
    const { attempt } = (await ledger.begin(runId, newId()))!
    const point = (name: string, step: number, value: number) => ({ name, step, value, time })
    await appendPoints(database.pool, { runId, attempt }, [point('loss', 0, 2.5), point('loss', 1, Number.NaN)])
  }
  const engine = JSON.stringify({ name: 'wasm', version: '4', threads: 1, device: 'cpu' })
  await database.pool.query('UPDATE attempts SET engine = $1', [engine])
  const [runId] = runIds
  await database.pool.query(
    `INSERT INTO artifacts (id, run_id, attempt, name, type, key, size, sha256)
     VALUES ($1, $2, 1, 'big.bin', 'application/octet-stream', 'k', 9007199254740993, 'x')`,
    [newId(), runId],
  )
  await database.pool.query(
    `INSERT INTO findings (run_id, index, evaluation, scores, tables, pictures)
     VALUES ($1, 0, 'nearest-neighbours', '{"accuracy": 0.75}', '[]', '[]')`,
    [runId],
  )
})
afterAll(() => world.close())

/** Asks three times, since the third answer comes from the compiled form of the query. */
async function ask(query: string, variables?: Record<string, unknown>): Promise<Answer> {
  const answer = await world.query(query, variables)
  for (let i = 0; i < 2; i++) expect(await world.query(query, variables)).toEqual(answer)
  return answer
}

/** Statements that reach Postgres while `work` runs, by whichever way. */
async function statements(work: () => Promise<unknown>): Promise<string[]> {
  const { pool } = world.parts.database
  const seen: string[] = []
  type Query = (...args: unknown[]) => unknown
  const original = await pool.connect().then((client) => {
    client.release()
    return Object.getPrototypeOf(client) as { query: Query }
  })
  const { query } = original
  original.query = function (this: unknown, ...args: unknown[]) {
    const [statement] = args
    seen.push(typeof statement === 'string' ? statement : String((statement as { text?: string }).text))
    return query.apply(this, args)
  }
  try {
    await work()
  } finally {
    original.query = query
  }
  return seen.filter((statement) => !/^(BEGIN|COMMIT|SELECT 1$)/.test(statement))
}

describe('queries', () => {
  it('reads a run with all that belongs to it', async () => {
    const { data, errors } = await ask(
      `query ($id: ID!) { run(id: $id) {
        id name state version definition createdAt startedAt finishedAt cancelRequested
        experiment { id name runs { id } }
        attempts { number engine { name threads } outcome }
        metrics(names: ["loss"]) { name sampled points { step value text time } }
        artifacts { name type size url } findings { evaluation scores tables } checkpoints { step final size }
        embeddings { name rows files { role url } } log(last: 5) { text } samples { cpu rss }
        progress { stage epoch } failure { code message cure }
      } }`,
      { id: runIds[0] },
    )
    expect(errors).toBeUndefined()
    expect(data.run).toMatchObject({
      id: runIds[0],
      name: 'run 00',
      state: 'running',
      definition: { method: { name: 'npid' } },
      finishedAt: null,
      progress: null,
      failure: null,
      experiment: { name: 'run 00', runs: [{ id: runIds[0] }] },
      attempts: [{ number: 1, engine: { name: 'wasm', threads: 1 }, outcome: null }],
      artifacts: [
        { name: 'big.bin', type: 'application/octet-stream', url: expect.stringContaining('/v1/artifacts/') },
      ],
      findings: [{ evaluation: 'nearest-neighbours', scores: { accuracy: 0.75 }, tables: [] }],
      checkpoints: [],
      embeddings: [],
    })
    const time = '2026-01-31T12:00:00.000Z'
    const points = [
      { step: 0, value: 2.5, text: '2.5', time },
      { step: 1, value: null, text: 'NaN', time },
    ]
    expect(data.run.metrics).toEqual([{ name: 'loss', sampled: false, points }])
  })

  it('holds a run against what its definition expects', async () => {
    const source = 'a paper'
    const expected = [
      { of: 'nearest-neighbours/accuracy', value: 0.7, tolerance: 0.1, source },
      { of: 'metrics/loss', value: 2.5, source },
      { of: 'metrics/unheard', value: 1, tolerance: 1, source },
    ]
    await world.parts.database.pool.query(
      `UPDATE runs SET definition = definition || $2::jsonb, progress = '{"steps": 1, "epochs": 1}' WHERE id = $1`,
      [runIds[0], JSON.stringify({ expected })],
    )
    const query = `query ($ids: ID!, $other: ID!) {
      run(id: $ids) { expectations { of value tolerance source measured met } }
      other: run(id: $other) { expectations { of } }
    }`
    const { data, errors } = await ask(query, { ids: runIds[0], other: runIds[1] })
    expect(errors).toBeUndefined()
    expect(data.other.expectations).toEqual([])
    expect(data.run.expectations).toEqual([
      { ...expected[0], measured: 0.75, met: true },
      // One of its points is no number.
      { ...expected[1], tolerance: null, measured: null, met: null },
      { ...expected[2], measured: null, met: null },
    ])
    await world.parts.database.pool.query(`UPDATE runs SET definition = definition - 'expected', progress = NULL`)
  })

  it('reads 50 runs with 4 lists each in at most 6 statements', async () => {
    const query = `{ runs(first: 50) { nodes {
      id attempts { number } findings { scores } artifacts { name } metrics(names: ["loss"]) { points { value } }
    } } }`
    for (let i = 0; i < 3; i++) {
      let answer: Answer | undefined
      const seen = await statements(async () => {
        answer = await world.query(query)
      })
      expect(answer?.data.runs.nodes).toHaveLength(50)
      for (const node of answer?.data.runs.nodes ?? []) expect(node.metrics[0].points).toHaveLength(2)
      expect(seen.length, seen.join('\n')).toBeGreaterThan(1)
      expect(seen.length, seen.join('\n')).toBeLessThanOrEqual(6)
    }
  })

  it('counts only when it is asked to', async () => {
    const counts = (list: string[]) => list.filter((statement) => /count\(/i.test(statement)).length
    expect(counts(await statements(() => world.query('{ runs(first: 1) { nodes { id } } }')))).toBe(0)
    expect(counts(await statements(() => world.query('{ runs(first: 1) { totalCount } }')))).toBe(1)
  })

  it('pages with cursors that stay where they are while rows come in', async () => {
    const query = `query ($after: String) { runs(first: 20, after: $after, order: { by: NAME, direction: ASC }, filter: { name: "run " }) {
      totalCount edges { cursor node { name } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    } }`
    const names: string[] = []
    let after: string | null = null
    do {
      const { data }: Answer = await world.query(query, { after })
      const { edges, pageInfo, totalCount } = data.runs
      expect(totalCount).toBe(50)
      expect(pageInfo.endCursor).toBe(edges.at(-1).cursor)
      expect(pageInfo.hasPreviousPage).toBe(after !== null)
      names.push(...edges.map((edge: { node: { name: string } }) => edge.node.name))
      after = pageInfo.hasNextPage ? pageInfo.endCursor : null
    } while (after)
    expect(names).toEqual([...names].sort())
    expect(names).toHaveLength(50)
  })

  it('filters by state, experiment, tag and time', async () => {
    const total = async (filter: object) =>
      (await world.query('query ($f: RunFilter) { runs(filter: $f) { totalCount } }', { f: filter })).data?.runs
        .totalCount
    expect(await total({ state: ['running'] })).toBe(50)
    expect(await total({ state: ['queued', 'failed'] })).toBe(0)
    expect(await total({ method: 'npid', dataset: 'shapes', name: 'RUN 4' })).toBe(10)
    expect(await total({ createdAfter: '2100-01-01T00:00:00Z' })).toBe(0)
    const { errors } = await world.query('{ runs(filter: { experimentId: "x" }) { totalCount } }')
    expect(errors).toMatchObject([
      { extensions: { code: 'invalid-definition', errors: [{ pointer: '/experimentId' }] } },
    ])
  })

  it('lists what a definition may name, the workers and the queue', async () => {
    const { ledger } = world.parts
    const worker = {
      id: newId(),
      host: 'here',
      pid: 1,
      version: '0',
      engine: 'wasm',
      cores: 2,
      memoryBytes: 2 ** 34,
      concurrency: 1,
    }
    const rejectedEngines = [{ engine: 'onnx', reason: 'no such library', cure: 'install it' }]
    const computing = { engineVersion: '4.22.0', threads: 1, device: 'A processor', rejectedEngines }
    await ledger.workerStarted({ ...worker, ...computing })
    const { data } = await ask(`{
      methods { name title source parameters } nets { name } datasets { name } evaluations { name }
      workers { id engine engineVersion threads device rejectedEngines { engine reason cure } memoryBytes runIds }
      queue { waiting active delayed failed paused }
    }`)
    expect(data.methods).toContainEqual(expect.objectContaining({ name: 'npid', source: expect.any(String) }))
    for (const kind of ['nets', 'datasets', 'evaluations']) expect(data[kind].length).toBeGreaterThan(0)
    expect(data.workers).toMatchObject([
      { id: worker.id, engine: 'wasm', ...computing, memoryBytes: 2 ** 34, runIds: [] },
    ])
    expect(data.queue).toMatchObject({ waiting: 0, paused: 0 })
  })

  it('shows the GPU of a worker, and why a run that asks for one waits', async () => {
    const { ledger, database } = world.parts
    const id = newId()
    const machine = { host: 'lab1', pid: 1, version: '0', engine: 'webgpu', cores: 2, memoryBytes: 2 ** 36 }
    const card = { gpuName: 'NVIDIA T4', gpuSlots: 2, gpuMemoryBytes: 2 ** 34 }
    const { engine, cores, memoryBytes } = machine
    const offer = offerOf({ engine, cores, memoryBytes, gpu: true, gpuSlots: 2, gpuMemory: 2 ** 34 })
    await ledger.workerStarted({ id, ...machine, ...card, offer, concurrency: 2 })
    await database.pool.query('DELETE FROM workers WHERE id <> $1', [id])
    const use = { gpuFreeBytes: 2 ** 32, gpuUsedBytes: 3 * 2 ** 32, gpuUtilisation: 0.5, gpuFault: null }
    await ledger.heartbeat(id, [newId()], use)

    const submitted = await world.send('/v1/experiments', definition({ resources: { gpuMemory: 2 ** 33 } }))
    const { runIds } = submitted.json() as { runIds: string[] }
    const query = `query ($id: ID!) {
      run(id: $id) { waiting needs definition }
      workers { gpuName gpuSlots gpuMemoryBytes gpuFreeBytes gpuUsedBytes gpuUtilisation gpuFault offer }
    }`
    const seen = async () => (await ask(query, { id: runIds[0] })).data
    expect(await seen()).toMatchObject({
      run: {
        needs: { gpu: true, gpuMemory: 2 ** 33 },
        definition: { resources: { gpu: true, gpuMemory: 2 ** 33 } },
        waiting:
          'it waits for a worker with a GPU of 8.0 GiB free; the workers here: lab1 (NVIDIA T4: 4.0 GiB of 16.0 GiB free)',
      },
      workers: [{ ...card, ...use, offer: { gpu: true } }],
    })
    await ledger.heartbeat(id, [], { ...use, gpuFreeBytes: null, gpuFault: 'the driver is gone' })
    expect(await seen()).toMatchObject({
      run: { waiting: expect.stringMatching(/lab1 \(its GPU does not serve: the driver is gone\)$/) },
      workers: [{ gpuFault: 'the driver is gone', offer: { gpu: false } }],
    })
    await ledger.heartbeat(id, [], { ...use, gpuFreeBytes: 2 ** 34 })
    expect((await seen()).run.waiting).toBe('it is about to be taken')
    await ledger.heartbeat(id, [])
    expect((await seen()).workers).toMatchObject([{ gpuFreeBytes: null, gpuUtilisation: null }])
    await ledger.requestCancel(runIds[0]!)
    await database.pool.query('DELETE FROM workers WHERE id = $1', [id])
  })

  it('names what is not there', async () => {
    const { data, errors } = await ask('query ($id: ID!) { run(id: $id) { id } }', { id: newId() })
    expect(data).toEqual({ run: null })
    expect(errors).toMatchObject([{ extensions: { code: 'not-found', cure: expect.any(String) }, path: ['run'] }])
    expect((await ask('{ experiment(id: "x") { id } }')).errors).toMatchObject([{ extensions: { code: 'not-found' } }])
  })

  it('runs the operation that is named, whichever was asked for before', async () => {
    const query = 'query A { queue { waiting } } query B { nets { name } }'
    for (const [operationName, key] of [
      ['A', 'queue'],
      ['A', 'queue'],
      ['B', 'nets'],
      ['A', 'queue'],
      ['B', 'nets'],
    ] as const) {
      const { data } = (await world.send('/graphql', { query, operationName })).json()
      expect(Object.keys(data)).toEqual([key])
    }
  })

  it('refuses several queries in one request', async () => {
    const response = await world.send('/graphql', [{ query: '{ queue { waiting } }' }])
    expect(response.statusCode).toBe(400)
    expect(response.json()).toMatchObject({ errors: [{ extensions: { code: 'malformed-query' } }] })
  })
})

describe('mutations', () => {
  const submit = `mutation ($definition: JSON!, $key: String, $dryRun: Boolean) {
    submitExperiment(definition: $definition, idempotencyKey: $key, dryRun: $dryRun) {
      experiment { id name } runs { id state } plan replayed
    }
  }`

  it('submits as POST /v1/experiments does, and answers the same key the same way', async () => {
    const { data } = await world.query(submit, { definition: definition({ name: 'posted' }), key: 'graphql' })
    expect(data.submitExperiment).toMatchObject({
      experiment: { name: 'posted' },
      runs: [{ state: 'queued' }],
      plan: { steps: 16 },
      replayed: false,
    })
    const again = await world.query(submit, { definition: definition({ name: 'posted' }), key: 'graphql' })
    expect(again.data.submitExperiment).toMatchObject({ experiment: data.submitExperiment.experiment, replayed: true })
    const other = await world.query(submit, { definition: definition({ name: 'other' }), key: 'graphql' })
    expect(other.errors).toMatchObject([{ extensions: { code: 'key-reused' } }])
  })

  it('gives the list of faults that REST gives', async () => {
    const bad = definition({ colour: 'red', method: { name: 'npdi' } })
    const { errors } = await world.query(submit, { definition: bad })
    const rest = (await world.send('/v1/experiments', bad)).json()
    expect(errors).toMatchObject([{ path: ['submitExperiment'], extensions: { code: 'invalid-definition' } }])
    expect(errors![0]!.extensions.errors).toEqual(rest.errors)
  })

  it('plans without keeping anything', async () => {
    const { data } = await world.query(submit, { definition: definition({ name: 'dry' }), dryRun: true })
    expect(data.submitExperiment).toMatchObject({ experiment: null, runs: [], plan: { runs: 1 } })
    expect(
      (await world.query('{ experiments(filter: { name: "dry" }) { totalCount } }')).data.experiments.totalCount,
    ).toBe(0)
  })

  it('cancels a run once', async () => {
    const runId = await acceptRun(world.parts, 'unwanted')
    const cancel = 'mutation ($id: ID!) { cancelRun(id: $id) { id state finishedAt } }'
    expect((await world.query(cancel, { id: runId })).data.cancelRun).toMatchObject({ id: runId, state: 'cancelled' })
    expect((await world.query(cancel, { id: runId })).errors).toMatchObject([{ extensions: { code: 'conflict' } }])
    expect((await world.query(cancel, { id: 'x' })).errors).toMatchObject([{ extensions: { code: 'not-found' } }])
  })

  it('are not run by GET', async () => {
    const query = `mutation { cancelRun(id: "${newId()}") { id } }`
    const response = await world.send(`/graphql?query=${encodeURIComponent(query)}`)
    expect(response.statusCode).toBe(405)
  })
})
