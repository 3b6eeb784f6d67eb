// Tracking beside a real MLflow server, both on a PostgreSQL of their own of the same make and settings:
//   npm run bench -- tracking [--python PATH] [--rounds N] [--save]
// PATH is a Python with `pip install mlflow psycopg2-binary`; without one it says so and measures nothing.
// Medians of milliseconds, and how many times as fast we are:
//   batch: 1,000 points of four curves become durable. MLflow: POST runs/log-batch, the way its clients have; ours: the
//     journal of a run, the way our runs have, which writes to the database itself. mlflowStore is MLflow's own store
//     called in the process of the run, without its server.
//   search: a page of 50 of 1,000 runs by state and part of the name, over HTTP.
//   history: all 100,000 points of a curve over HTTP, in pages of 25,000 (MLflow) and 10,000 (ours).
//   curve: the same curve in at most 1,000 points over HTTP, which is what a plot needs.
import { parseArgs } from 'node:util'
import { openDatabase } from '../src/store/database.ts'
import { migrate } from '../src/store/migrate.ts'
import { type Client, expectStatus, openClient } from './service/client.ts'
import { keep, machine, median, milliseconds, repeated, rounded } from './service/figures.ts'
import { fill } from './service/fill.ts'
import { definition, ingest } from './service/measures.ts'
import { startApi, surround } from './service/surroundings.ts'
import * as mlflow from './tracking/mlflow.ts'

const words = process.argv.slice(3)
const { values } = parseArgs({
  args: words,
  options: {
    python: { type: 'string', default: 'python3' },
    rounds: { type: 'string', default: '15' },
    save: { type: 'boolean', default: false },
  },
})
const rounds = Number(values.rounds)
const runs = 1000
const points = 100_000

interface Figures {
  batch: number
  search: number
  history: number
  curve: number
}

async function measureMlflow(python: string): Promise<Figures & { mlflowStore: number }> {
  const server = await mlflow.startMlflow(python)
  const { client } = server
  try {
    const experimentId = await mlflow.createExperiment(client, 'bench')
    const long = await mlflow.createRun(client, await mlflow.createExperiment(client, 'long'), 'long')
    const batch = await mlflow.mlflowBatches(client, long, (points * 4) / 1000)
    await mlflow.fillRuns(client, experimentId, runs)
    await mlflow.mlflowSearches(client, experimentId, 3)
    return {
      batch: median(batch),
      search: median(await mlflow.mlflowSearches(client, experimentId, rounds)),
      history: median(await mlflow.mlflowHistories(client, long, points, Math.ceil(rounds / 3))),
      curve: median(await mlflow.mlflowCurves(client, long, rounds)),
      mlflowStore: median(mlflow.mlflowStoreBatches(python, server.databaseUrl, 30)),
    }
  } finally {
    await server.close()
  }
}

async function readAll(client: Client, runId: string): Promise<void> {
  let found = 0
  for (let from = 0; from < points; from += 10_000) {
    const path = `/v1/runs/${runId}/metrics?names=loss&maxPoints=10000&from=${from}&to=${from + 9_999}`
    const { curves } = JSON.parse(await expectStatus(200, client.send('GET', path))) as {
      curves: { points: unknown[] }[]
    }
    found += curves[0]!.points.length
  }
  if (found !== points) throw new Error(`we found ${found} points, not ${points}`)
}

async function measureOurs(): Promise<Figures> {
  const around = await surround('embedded')
  try {
    await migrate(around.databaseUrl)
    const database = await openDatabase({ url: around.databaseUrl, max: 4, name: 'bench' })
    const { longRunId } = await fill(database.pool, { runs, points: points + 8 * runs, long: points }, definition)
    const api = await startApi(around.environment)
    const client = openClient(api.url)
    const search = () =>
      milliseconds(async () => {
        const text = await expectStatus(200, client.send('GET', '/v1/runs?state=succeeded&name=LED-4&first=50'))
        if ((JSON.parse(text) as { items: unknown[] }).items.length !== 50) throw new Error(`not 50 runs: ${text}`)
      })
    const overview = `/v1/runs/${longRunId}/metrics?names=loss&maxPoints=1000`
    const curve = () => milliseconds(() => expectStatus(200, client.send('GET', overview)))
    for (const warm of [search, curve]) await repeated(3, warm)
    const figures = {
      batch: 1_000_000 / median(await ingest(database, 20_000, rounds)),
      search: median(await repeated(rounds, search)),
      history: median(await repeated(rounds, () => milliseconds(() => readAll(client, longRunId)))),
      curve: median(await repeated(rounds, curve)),
    }
    client.close()
    await api.stop()
    await database.close()
    return figures
  } finally {
    await around.close()
  }
}

const version = mlflow.mlflowVersion(values.python)
if (version === undefined)
  console.error(
    `without MLflow: ${values.python} has none ('pip install mlflow psycopg2-binary'; --python names another)`,
  )
else {
  const about = machine()
  const ours = await measureOurs()
  const { mlflowStore, ...theirs } = await measureMlflow(values.python)
  const inFull = (figures: Figures) =>
    Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, rounded(value as number, 2)]))
  const times = (name: keyof Figures) => rounded(theirs[name] / ours[name])
  const ratios = { batch: times('batch'), search: times('search'), history: times('history'), curve: times('curve') }
  const result = {
    ...{ bench: 'tracking', mlflow: version, ratios, ratioToStoreWithoutServer: rounded(mlflowStore / ours.batch) },
    ...{ milliseconds: { ours: inFull(ours), mlflow: inFull(theirs), mlflowStore: rounded(mlflowStore, 2) }, ...about },
  }
  if (values.save) keep('tracking', words, result)
  console.log(JSON.stringify(result))
}
