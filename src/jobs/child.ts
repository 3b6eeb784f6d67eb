// The process that performs one run: the worker forks it, hands it a task, and reads its outcome.
import { setTimeout as sleep } from 'node:timers/promises'
import { softwareVersion } from '../config.ts'
import { describeEngine, describeRejection, type EngineChoice } from '../engine/choice.ts'
import { chooseEngine } from '../engine/choose.ts'
import { Superseded, Unavailable } from '../errors.ts'
import type { Logger, StopReason } from '../experiments/context.ts'
import { parseDefinition } from '../experiments/definition.ts'
import { perform } from '../experiments/perform.ts'
import type { EngineRecord, RejectedEngine } from '../experiments/run.ts'
import { datasetBytes } from '../store/dataset-bytes.ts'
import { openObjects } from '../store/open-objects.ts'
import { openPool } from '../store/pool.ts'
import { openRunContext } from '../store/run-context.ts'
import { openTracing, type Span, untraced } from '../tracing.ts'
import { answerWorker } from './child-life.ts'
import { failureOf } from './failures.ts'
import type { GpuUsage } from './gpu-watch.ts'
import type { ChildConfig, FromChild, Progress, ToChild } from './messages.ts'
import { startSampling } from './sampling.ts'

type Task = Extract<ToChild, { type: 'perform' }>

// Standard output and error end up in the worker's log, line by line.
const log: Logger = {
  info: (text) => console.log(text),
  warn: (text) => console.warn(text),
  error: (text) => console.error(text),
}

const stop = new AbortController()

let toldWait = false
function tellWait(error: Error): void {
  if (!toldWait) log.warn(`the object store is away, waiting: ${error.message}`)
  toldWait = true
}

/** The run as a part of the trace of its attempt, which is sent before the outcome is told. */
async function performTraced(task: Task): Promise<FromChild> {
  const tracing = task.config.tracing ? await openTracing('gestalt-run', softwareVersion()) : untraced
  const attributes = { 'gestalt.run.id': task.runId, 'gestalt.attempt': task.attempt }
  const span = tracing.begin('perform run', task.traceparent, { attributes })
  try {
    const outcome = await performRun(task, span)
    span.set({ 'gestalt.outcome': outcome.type })
    span.end()
    return outcome
  } catch (error) {
    span.end(error)
    throw error
  } finally {
    await tracing.close()
  }
}

/** Read before the definition is judged, which takes an engine. */
const asksForHalf = (definition: unknown) =>
  (definition as { training?: { precision?: unknown } } | null)?.training?.precision === 'half'

/** What computes, or why that is not the GPU which was asked for; an engine without its GPU may not even start. */
async function findEngine({ config, definition, gpu, proven }: Task): Promise<EngineChoice | string> {
  try {
    const choice = await chooseEngine(config.engine, {
      ...{ threads: config.engineThreads, gpu: config.gpu, places: config.enginePlaces },
      ...{ half: asksForHalf(definition), proven },
    })
    return gpu && !choice.engine.gpu ? `it would compute on ${describeEngine(choice.engine)}` : choice
  } catch (error) {
    if (gpu && error instanceof Unavailable) return error.message
    throw error
  }
}

/** Hears how the GPU is, once something computes on it. */
let onGpu: (usage: GpuUsage) => void = () => {}

async function performRun(task: Task, span: Span): Promise<FromChild> {
  const { runId, attempt, definition, config } = task
  const found = await findEngine(task)
  if (typeof found === 'string') return { type: 'lacks-gpu', reason: found }
  const { engine, rejected } = found
  if (engine.gpu) process.send?.({ type: 'on-gpu' } satisfies Progress)
  const pool = openPool({ url: databaseUrl(config), max: 2, name: 'gestalt-child' })
  try {
    const objects = openObjects(config, { patienceSeconds: config.objectsPatienceSeconds, onWait: tellWait })
    const context = await openRunContext({
      database: { pool },
      objects,
      bytes: datasetBytes(objects, config.datasetFolders, { copies: true }),
      fence: { runId, attempt },
      stop: stop.signal,
      log,
      span,
    })
    const endSampling = startSampling(context)
    try {
      await context.recordEngine(engine)
      if (engine.gpu) onGpu = (usage) => context.gpu(usage)
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

function databaseUrl(config: ChildConfig): string {
  if (config.databaseUrl) return config.databaseUrl
  throw new Error('the task names no database')
}

answerWorker((message: ToChild) => {
  if (message.type === 'perform') return performTraced(message)
  if (message.type === 'stop') stop.abort(message.reason)
  else onGpu(message.usage)
  return undefined
})
