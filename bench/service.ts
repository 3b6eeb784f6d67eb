// The service under the load of a laboratory: 10,000 runs and 20,000,000 points.
//   npm run bench -- service [--shape embedded|production|both] [--runs N] [--points N] [--rounds N] [--save]
// embedded: PostgreSQL keeps the queue as well, objects lie in a directory. production: the queue is in Redis and objects
// in S3; left out where redis-server or versitygw are missing. Each shape prints a line of JSON; medians of rounds.
//   coldStartSeconds: `gestalt up` from an empty folder (production: an empty database) until the API takes requests.
//   postPerSecond, graphqlPerSecond: POST /v1/experiments; a page of 50 runs. Over HTTP with 16 in flight, client and
//     server on the same machine.
//   ingestPointsPerSecond: through the journal of a run, batches of 1,000 points of four curves, each flushed.
//   curveMilliseconds: at most 1,000 of the 1,000,000 points of a curve, GET /v1/runs/:id/metrics over HTTP.
//   dispatchMilliseconds: from the 202 until a process on the queue has begun the run's attempt in the database; the
//     start of the child that performs it is not in it.
import { parseArgs } from 'node:util'
import { openDatabase } from '../src/store/database.ts'
import { migrate } from '../src/store/migrate.ts'
import { openClient } from './service/client.ts'
import { keep, machine, median, milliseconds, rounded } from './service/figures.ts'
import { fill } from './service/fill.ts'
import { lists } from './service/lists.ts'
import { coldStarts, curves, definition, dispatches, ingest, percentiles, posts, queries } from './service/measures.ts'
import { lacks, type Shape, shapes, startApi, surround } from './service/surroundings.ts'

const words = process.argv.slice(3)
const { values } = parseArgs({
  args: words,
  options: {
    shape: { type: 'string', default: 'both' },
    runs: { type: 'string', default: '10000' },
    points: { type: 'string', default: '20000000' },
    rounds: { type: 'string', default: '5' },
    save: { type: 'boolean', default: false },
  },
})
const rounds = Number(values.rounds)
const size = {
  runs: Number(values.runs),
  points: Number(values.points),
  long: Math.min(1e6, Number(values.points) / 2),
}
const say = (text: string) => console.error(text)

async function measure(shape: Shape) {
  const around = await surround(shape)
  try {
    say(`${shape}: cold starts`)
    const cold = await coldStarts(shape, around, rounds)
    await migrate(around.databaseUrl)
    const database = await openDatabase({ url: around.databaseUrl, max: 4, name: 'bench' })
    say(`${shape}: filling`)
    let longRunId = ''
    const fillSeconds = await milliseconds(async () => {
      longRunId = (await fill(database.pool, size, definition)).longRunId
    })
    say(`${shape}: filled in ${rounded(fillSeconds / 1000)} s; measuring`)
    const api = await startApi(around.environment)
    const client = openClient(api.url)
    const curve = await curves(client, longRunId, rounds * 5)
    const ingested = await ingest(database, 100_000, rounds)
    const page = await queries(client, rounds)
    const listed = await lists(database, 3)
    const posted = await posts(client, rounds)
    const dispatched = await dispatches(around, database, client, 60 * rounds)
    client.close()
    await api.stop()
    await database.close()
    return {
      bench: 'service',
      shape,
      coldStartSeconds: rounded(median(cold), 2),
      postPerSecond: Math.round(median(posted)),
      graphqlPerSecond: Math.round(median(page)),
      ingestPointsPerSecond: Math.round(median(ingested)),
      curveMilliseconds: rounded(median(curve)),
      dispatchMilliseconds: percentiles(dispatched),
      ...{ runs: size.runs, points: size.points, listMilliseconds: listed },
    }
  } finally {
    await around.close()
  }
}

const wanted = shapes.filter((shape) => values.shape === 'both' || values.shape === shape)
const about = machine()
const results = []
for (const shape of wanted) {
  const missing = lacks(shape)
  if (missing) say(`without the ${shape} shape: ${missing}`)
  else {
    const result = { ...(await measure(shape)), ...about }
    results.push(result)
    if (values.save) keep('service', words, { shapes: results })
    console.log(JSON.stringify(result))
  }
}
