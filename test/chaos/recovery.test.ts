import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { rollDice } from '../../src/models/dice.ts'
import { eventually } from '../eventually.ts'
import { testDatabase } from '../postgres.ts'
import { type Cluster, openCluster, type WorkerProcess } from './cluster.ts'

// Several processes at work; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 })

/** Three checkpoints of the eight before the final one, in order: right after each of them something is killed. */
function killSteps(seed: number): number[] {
  const drawn = rollDice(seed).for('kill').permutation(7).slice(0, 3)
  return [...drawn].sort((a, b) => a - b).map((index) => 7 * (index + 1))
}

describe('a run whose processes are killed', () => {
  let home: Awaited<ReturnType<typeof testDatabase>>
  let cluster: Cluster
  let worker: WorkerProcess
  let undisturbed: unknown

  beforeAll(async () => {
    home = await testDatabase()
    cluster = await openCluster(home.url)
    worker = await cluster.startWorker()
    const runId = await cluster.submit()
    await cluster.becomes(runId, 'succeeded')
    undisturbed = await cluster.evidence(runId)
    expect(undisturbed).toMatchObject({ step: 60 })
  })
  afterAll(async () => {
    await cluster.close()
    await home.drop()
  })

  async function outcomes(runId: string): Promise<unknown[]> {
    return (await cluster.ledger.attempts([runId])).get(runId)!.map((attempt) => attempt.outcome)
  }

  it('ends the same, bit for bit, after its child was killed three times', async () => {
    const runId = await cluster.submit()
    for (const step of killSteps(1)) {
      await cluster.reaches(runId, step)
      process.kill(worker.childOf(runId), 'SIGKILL')
    }
    await cluster.becomes(runId, 'succeeded')
    expect(await outcomes(runId)).toEqual(['lost', 'lost', 'lost', 'succeeded'])
    expect(await cluster.evidence(runId)).toEqual(undisturbed)
  })

  it('ends the same, bit for bit, after its whole worker was killed three times', async () => {
    const runId = await cluster.submit()
    for (const step of killSteps(2)) {
      // Starts meanwhile: the time until a run is taken up is the service's, that of a process's start the machine's.
      const standby = cluster.startWorker()
      await cluster.reaches(runId, step)
      const attempt = (await cluster.run(runId)).attempt
      const child = worker.childOf(runId)
      await worker.end('SIGKILL')
      worker = await standby
      const replaced = Date.now()
      await eventually(() => expect(isAlive(child), 'the child outlives its worker').toBe(false))
      const taken = await takenUp(runId, attempt)
      expect((taken - replaced) / 1000, 'seconds until the run was taken up again').toBeLessThan(15)
    }
    await cluster.becomes(runId, 'succeeded')
    expect(await outcomes(runId)).toEqual(['lost', 'lost', 'lost', 'succeeded'])
    expect(await cluster.evidence(runId)).toEqual(undisturbed)
  })

  /** When the attempt after this one started. */
  async function takenUp(runId: string, attempt: number): Promise<number> {
    await cluster.reachesAttempt(runId, attempt + 1)
    const attempts = (await cluster.ledger.attempts([runId])).get(runId)!
    return attempts.find((each) => each.number === attempt + 1)!.startedAt.getTime()
  }

  it('is released with a checkpoint by a worker that is told to end, and ends the same with another', async () => {
    const runId = await cluster.submit()
    await cluster.reaches(runId, 14)
    expect(await worker.end('SIGTERM')).toBe(0)
    const run = await cluster.run(runId)
    expect(run).toMatchObject({ state: 'queued', attempt: 1 })
    expect(await cluster.queue.has({ runId, attempt: 1 })).toBe(true)
    worker = await cluster.startWorker()
    await cluster.becomes(runId, 'succeeded')
    expect(await outcomes(runId)).toEqual(['released', 'succeeded'])
    expect(await cluster.evidence(runId)).toEqual(undisturbed)
  })

  it('stops at a step with a checkpoint when it is cancelled', async () => {
    const runId = await cluster.submit({ training: { epochs: 1000, batchSize: 32, checkpointEverySteps: 10_000 } })
    await cluster.reachesProgress(runId, 5)
    await cluster.ledger.requestCancel(runId)
    await cluster.becomes(runId, 'cancelled')
    const checkpoints = (await cluster.ledger.checkpoints([runId])).get(runId)!
    expect(checkpoints).toMatchObject([{ final: false }])
    expect(checkpoints[0]!.step).toBeGreaterThanOrEqual(5)
    expect(await outcomes(runId)).toEqual(['cancelled'])
  })

  it('comes back when the queue forgets it', async () => {
    await worker.end('SIGTERM')
    const runId = await cluster.submit({ training: { epochs: 1, batchSize: 32 } })
    await cluster.database.pool.query('DELETE FROM bullmq.job')
    expect(await cluster.queue.has({ runId, attempt: 0 })).toBe(false)
    worker = await cluster.startWorker()
    await cluster.becomes(runId, 'succeeded')
    expect(await outcomes(runId)).toEqual(['succeeded'])
  })

  it('is written by one attempt only, when the earlier worker slept through its heartbeats', async () => {
    const runId = await cluster.submit()
    await cluster.reaches(runId, 14)
    const child = worker.childOf(runId)
    const sleepers = [worker.process.pid!, child]
    for (const pid of sleepers) process.kill(pid, 'SIGSTOP')
    const sleeping = worker
    worker = await cluster.startWorker()
    await cluster.reachesAttempt(runId, 2)
    await cluster.reaches(runId, 28)
    for (const pid of sleepers) process.kill(pid, 'SIGCONT')
    await cluster.becomes(runId, 'succeeded')
    expect(await outcomes(runId)).toEqual(['lost', 'succeeded'])
    expect(await cluster.evidence(runId)).toEqual(undisturbed)
    await eventually(() => expect(isAlive(child)).toBe(false))
    expect(sleeping.log.join('\n')).toContain('superseded')
    const late = (await cluster.ledger.checkpoints([runId])).get(runId)!.filter(({ attempt }) => attempt === 1)
    expect(late.every(({ step }) => step <= 21)).toBe(true)
    expect(await sleeping.end('SIGTERM')).toBe(0)
  })
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
