import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { childEnvironment, readConfig } from '../../src/config.ts'
import { startWebGpu } from '../../src/engine/webgpu/index.ts'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { createMemoryContext, memoryBytes } from '../../src/experiments/memory-context.ts'
import { perform } from '../../src/experiments/perform.ts'
import { openQueue, type Queue } from '../../src/jobs/queue.ts'
import { Supervisor } from '../../src/jobs/supervisor.ts'
import { type Database, openDatabase } from '../../src/store/database.ts'
import { newId } from '../../src/store/id.ts'
import { type Ledger, openLedger } from '../../src/store/ledger.ts'
import { readAll } from '../../src/store/objects.ts'
import { openObjects } from '../../src/store/open-objects.ts'
import { decodeSafetensors } from '../../src/store/safetensors.ts'
import { losingDevice } from '../fixtures/lost-device.ts'
import { testDatabase } from '../postgres.ts'
import { hasSwiftShader, onlySwiftShader, swiftShader, swiftShaderChoice } from '../swiftshader.ts'

// Several processes compile shaders; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 })

const steps = 20
const small = {
  ...{ version: 1, name: 'lost', seed: 3 },
  dataset: { name: 'shapes', images: 60, testImages: 20, classes: 4, height: 8, width: 8, clutter: 0 },
  net: { name: 'small', widths: [4] },
  method: { name: 'npid', dimension: 4 },
  training: { epochs: 4, batchSize: 12, checkpointEverySteps: 4 },
  evaluations: [],
}

describe.runIf(hasSwiftShader)('a run whose GPU is lost in the middle of it', () => {
  let home: string
  let place: Awaited<ReturnType<typeof testDatabase>>
  let database: Database
  let ledger: Ledger
  let queue: Queue
  let workerId: string
  const log: string[] = []

  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), 'gestalt-lost-'))
    place = await testDatabase()
    database = await openDatabase({ url: place.url, max: 4, name: 'gestalt-test' })
    ledger = openLedger(database)
    queue = await openQueue({ databaseUrl: place.url })
    workerId = newId()
    const machine = { host: 'here', pid: 1, version: '0', engine: 'webgpu', cores: 1, memoryBytes: 1, concurrency: 1 }
    await ledger.workerStarted({ id: workerId, ...machine })
  })
  afterAll(async () => {
    await queue.close()
    await database.close()
    await place.drop()
    rmSync(home, { recursive: true, force: true })
  })

  function start(environment: Record<string, string>): Supervisor {
    const own = { DATABASE_URL: place.url, GESTALT_HOME: home, GESTALT_ENGINE_THREADS: '1' }
    const config = readConfig({ ...own, GESTALT_ENGINE: 'webgpu', GESTALT_GPU: swiftShaderChoice })
    const all = { ...childEnvironment(1), ...swiftShader, ...environment }
    const say = (text: string) => void log.push(text)
    const parts = { workerId, ledger, queue, config, environment: all, log: { info: say, warn: say, error: say } }
    return new Supervisor(parts)
  }

  async function submit(): Promise<string> {
    const definition = parseDefinition(small)
    const accepted = await ledger.accept({ name: 'x', tags: [], notes: '', priority: 0, definition, plan: {} })
    if (accepted.mismatch) throw new Error('no key was given')
    return accepted.runIds[0]!
  }

  const stateOf = async (runId: string) => (await ledger.runs([runId])).get(runId)!
  const outcomes = async (runId: string) => (await ledger.attempts([runId])).get(runId)!.map(({ outcome }) => outcome)

  /** Everything that was learned and remembered. */
  async function tensorsOf(runId: string) {
    const final = (await ledger.checkpoints([runId])).get(runId)!.find((checkpoint) => checkpoint.final)!
    expect(final.step).toBe(steps)
    const file = await readAll(await openObjects(readConfig({ GESTALT_HOME: home })).get(final.key))
    return decodeSafetensors(file, 'the checkpoint').tensors
  }

  async function undisturbed() {
    onlySwiftShader()
    const engine = await startWebGpu({ choice: swiftShaderChoice })
    const { recorded, ...context } = createMemoryContext(memoryBytes())
    await perform(parseDefinition(small), context)
    engine.dispose()
    return recorded.checkpoints.find(({ final }) => final)!.checkpoint.tensors
  }

  it('is taken up again from its checkpoint, and ends with the very weights of one that was not disturbed', async () => {
    const runId = await submit()
    const supervisor = start(losingDevice(60))
    await supervisor.handle({ runId })
    expect(await stateOf(runId), log.join('\n')).toMatchObject({ state: 'queued', attempt: 1, failure: null })
    expect(log.join('\n')).toMatch(/the GPU SwiftShader Device \(Subzero\) was lost \(destroyed\)/)
    expect(await outcomes(runId)).toEqual(['lost'])
    expect(await queue.has({ runId, attempt: 1 })).toBe(true)
    const [newest] = (await ledger.checkpoints([runId])).get(runId)!.sort((a, b) => b.step - a.step)
    expect(newest).toMatchObject({ final: false })

    await supervisor.handle({ runId })
    expect(await outcomes(runId)).toEqual(['lost', 'succeeded'])
    const { rows } = await database.pool.query<{ text: string }>('SELECT text FROM run_log WHERE run_id = $1', [runId])
    expect(rows.map(({ text }) => text)).toContain(`goes on from the checkpoint at step ${newest!.step} of ${steps}`)
    expect(await tensorsOf(runId)).toEqual(await undisturbed())
  })
})
