// The process that performs one run: the worker forks it, hands it a task, and reads its outcome.
import { setTimeout as sleep } from 'node:timers/promises'
import { describeEngine, describeRejection } from '../engine/choice.ts'
import { chooseEngine } from '../engine/choose.ts'
import { Superseded } from '../errors.ts'
import type { Logger, StopReason } from '../experiments/context.ts'
import { parseDefinition } from '../experiments/definition.ts'
import { perform } from '../experiments/perform.ts'
import type { EngineRecord, RejectedEngine } from '../experiments/run.ts'
import { datasetBytes } from '../store/dataset-bytes.ts'
import { openObjects } from '../store/open-objects.ts'
import { openPool } from '../store/pool.ts'
import { openRunContext } from '../store/run-context.ts'
import { failureOf } from './failures.ts'
import type { ChildConfig, FromChild, Progress, ToChild } from './messages.ts'
import { startSampling } from './sampling.ts'

type Task = Extract<ToChild, { type: 'perform' }>
type Probe = Extract<ToChild, { type: 'probe' }>

// Standard output and error end up in the worker's log, line by line.
const log: Logger = {
  info: (text) => console.log(text),
  warn: (text) => console.warn(text),
  error: (text) => console.error(text),
}

const stop = new AbortController()

async function performRun({ runId, attempt, definition, config }: Task): Promise<FromChild> {
  const { engine, rejected } = await chooseEngine(config.engine, { threads: config.engineThreads })
  const pool = openPool({ url: databaseUrl(config), max: 2, name: 'gestalt-child' })
  try {
    const objects = openObjects(config)
    const context = await openRunContext({
      database: { pool },
      objects,
      bytes: datasetBytes(objects, config.datasetFolders),
      fence: { runId, attempt },
      stop: stop.signal,
      log,
    })
    const endSampling = startSampling(context)
    try {
      await context.recordEngine(engine)
      tellEngine(context.log, engine, [...(config.passedOver ?? []), ...rejected])
      const outcome = await perform(parseDefinition(definition), context)
      return outcome === 'succeeded' ? { type: outcome } : { type: outcome, reason: context.stop.reason as StopReason }
    } catch (error) {
      if (!(error instanceof Superseded)) await tellOwner(context, error)
      throw error
    } finally {
      endSampling()
      await context.close()
    }
  } finally {
    await pool.end()
  }
}

/** Where nobody asked for a slow engine, the run's log says why it computes on one. */
function tellEngine(runLog: Logger, engine: EngineRecord, passedOver: readonly RejectedEngine[]): void {
  runLog.info(`computes on ${describeEngine(engine)}`)
  const slow = { wasm: 'WebAssembly computes, on one thread', cpu: 'plain JavaScript computes, about 100 times slower' }
  if (passedOver.length === 0 || !(engine.name in slow)) return
  runLog.warn(`no faster engine works on this machine: ${slow[engine.name as keyof typeof slow]}`)
  for (const rejected of passedOver) runLog.warn(describeRejection(rejected))
}

/** What went wrong belongs into the run's own log too, as far as the database takes it. */
async function tellOwner(context: { log: Logger; flush(): Promise<void> }, error: unknown): Promise<void> {
  context.log.error(failureOf(error).failure.message)
  await Promise.race([context.flush().catch(() => {}), sleep(5000)])
}

async function probe({ engine, threads, skip }: Probe): Promise<FromChild> {
  const tell = (progress: Progress) => process.send?.(progress)
  const choice = await chooseEngine(engine, {
    threads,
    skip,
    onTry: (name) => tell({ type: 'trying', engine: name }),
    onReject: (rejected) => tell({ type: 'rejected', rejected }),
  })
  return { type: 'engine', choice }
}

function databaseUrl(config: ChildConfig): string {
  if (config.databaseUrl) return config.databaseUrl
  throw new Error('the task names no database')
}

function outcomeOf(error: unknown): FromChild {
  if (error instanceof Superseded) return { type: 'superseded' }
  console.error(error instanceof Error ? error.stack : error)
  return { type: 'failed', ...failureOf(error) }
}

/** Tells the outcome and ends; a worker that no longer listens has been replaced. */
function end(outcome: FromChild): void {
  if (!process.connected) process.exit(1)
  process.send?.(outcome, () => process.exit(0))
}

// Ctrl-C in a terminal reaches every process of the group, but it is for the worker to decide when a run stops.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})
// A child without its worker has no lock on its run any more; the worker may also have died while we were loading.
process.on('disconnect', () => process.exit(1))
if (!process.connected) process.exit(1)
process.on('uncaughtException', (error) => end(outcomeOf(error)))
process.on('unhandledRejection', (error) => end(outcomeOf(error)))

process.on('message', (message: ToChild) => {
  if (message.type === 'stop') return stop.abort(message.reason)
  const work: Promise<FromChild> = message.type === 'probe' ? probe(message) : performRun(message)
  work.then(end, (error) => end(outcomeOf(error)))
})
