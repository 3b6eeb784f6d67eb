// Takes runs from the queue as a worker does, up to the beginning of their attempt, and ends it: no child is started.
import { openQueue } from '../../src/jobs/queue.ts'
import { openDatabase } from '../../src/store/database.ts'
import { newId } from '../../src/store/id.ts'
import { openLedger } from '../../src/store/ledger.ts'

const { DATABASE_URL: databaseUrl = '', REDIS_URL: redisUrl } = process.env
const database = await openDatabase({ url: databaseUrl, max: 4, name: 'bench-worker' })
const ledger = openLedger(database)
const queue = await openQueue({ redisUrl: redisUrl || undefined, databaseUrl, connections: 4 })
const id = newId()
await ledger.workerStarted({
  ...{ id, host: 'bench', pid: process.pid, version: '0', engine: 'none', cores: 1, memoryBytes: 0, concurrency: 1 },
})
await queue.work(
  async ({ runId }) => {
    const begun = await ledger.begin(runId, id)
    process.send!({ runId, begun: begun !== undefined })
    if (begun) await ledger.end({ runId, attempt: begun.attempt }, { state: 'cancelled' })
  },
  { concurrency: 1 },
)
process.on('disconnect', () => process.exit(0))
process.send!({ ready: true })
