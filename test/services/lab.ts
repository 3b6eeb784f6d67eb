import { newId } from '../../src/store/id.ts'
import { appendPoints } from '../../src/store/metrics.ts'
import { openRunContext, type ServiceContext } from '../../src/store/run-context.ts'
import { acceptRun, type World } from '../api/world.ts'

const machine = {
  pid: 1,
  version: '0.0.0',
  engine: 'wasm',
  engineVersion: '4.22.0',
  threads: 1,
  cores: 2,
  memoryBytes: 1e9,
}

async function openContext({ parts }: World, runId: string, attempt: number): Promise<ServiceContext> {
  const { database, objects, bytes } = parts
  return openRunContext({ database, objects, bytes, fence: { runId, attempt }, stop: new AbortController().signal })
}

/** Trains, as far as anybody outside can see: curves, progress, samples, a log, a checkpoint. */
async function train(context: ServiceContext, from: number, to: number): Promise<void> {
  await context.recordEngine({ name: 'wasm', version: '4.22.0', threads: 1, device: 'a processor' })
  context.log.info(`goes on from step ${from}`)
  await context.checkpoints.latest()
  for (let step = from + 1; step <= to; step++) {
    context.metrics.report(step, { loss: step === 3 ? Number.NaN : 1 / step, learningRate: 0.1 })
    const rates = { loss: 1 / step, imagesPerSecond: 100, secondsLeft: 5, share: step / 20 }
    context.progress({ stage: 'training', epoch: step / 10, epochs: 2, step, steps: 20, ...rates })
  }
  context.sample({ time: new Date(), cpu: 1.5, rss: 2e8, systemLoad: 0.7, systemMemory: 4e8 })
  const tensors = { 'weights/w': { dtype: 'F32' as const, shape: [4], data: new Float32Array(4) } }
  await context.checkpoints.save({ step: to, tensors, meta: {} })
  await context.flush()
}

/** A run that loses its first attempt and succeeds in the second. */
async function succeed(world: World, workerId: string): Promise<string> {
  const { ledger } = world.parts
  const runId = await acceptRun(world.parts, 'succeeds')
  for (const [attempt, from, to] of [
    [1, 0, 10],
    [2, 10, 20],
  ] as const) {
    await ledger.begin(runId, workerId)
    const context = await openContext(world, runId, attempt)
    await train(context, from, to)
    if (attempt === 2)
      await context.findings.report(0, 'nearest-neighbours', { scores: { accuracy: 0.85, 'accuracy@1': Number.NaN } })
    await context.close()
    await ledger.end({ runId, attempt }, attempt === 1 ? { state: 'queued', outcome: 'lost' } : { state: 'succeeded' })
  }
  return runId
}

/** A run that works still, with a curve that is longer than any panel is wide. */
async function goOn(world: World, workerId: string, steps: number): Promise<string> {
  const runId = await acceptRun(world.parts, 'runs')
  await world.parts.ledger.begin(runId, workerId)
  for (let first = 1; first <= steps; first += 5000) {
    const length = Math.min(5000, steps - first + 1)
    const points = Array.from({ length }, (_, i) => ({
      name: 'loss',
      step: first + i,
      value: Math.sin(first + i),
      time: new Date(),
    }))
    await appendPoints(world.parts.database.pool, { runId, attempt: 1 }, points)
  }
  return runId
}

export const longCurve = 40_000

/** Runs of every kind, three workers, and requests. */
export async function fillLab(world: World): Promise<{ succeeded: string; running: string }> {
  const { ledger, queue } = world.parts
  const [here, gone] = [newId(), newId()]
  for (const [id, host] of [
    [here, 'here'],
    [gone, 'gone'],
  ] as const)
    await ledger.workerStarted({ ...machine, id, host, concurrency: 2 })
  await ledger.workerStopped(gone)
  const succeeded = await succeed(world, here)
  const running = await goOn(world, here, longCurve)
  await ledger.heartbeat(here, [running])
  const [card, onGpu] = [newId(), { gpuName: 'NVIDIA T4', gpuSlots: 2, gpuMemoryBytes: 2 ** 34 }]
  await ledger.workerStarted({ ...machine, id: card, host: 'card', concurrency: 2, ...onGpu })
  const use = { gpuFreeBytes: 2 ** 33, gpuUsedBytes: 2 ** 33, gpuUtilisation: 0.5, gpuFault: null }
  await ledger.heartbeat(card, [], use)
  const failed = await acceptRun(world.parts, 'fails')
  await ledger.begin(failed, here)
  const failure = { code: 'diverged', message: 'the loss is NaN', cure: 'lower the learning rate' }
  await ledger.end({ runId: failed, attempt: 1 }, { state: 'failed', failure })
  const waiting = await acceptRun(world.parts, 'waits')
  await queue.enqueue({ runId: waiting, attempt: 0, priority: 0 })
  await ledger.requestCancel(await acceptRun(world.parts, 'is cancelled'))
  for (const path of ['/v1/runs', `/v1/runs/${succeeded}`, '/v1/runs/nobody']) await world.send(path)
  return { succeeded, running }
}
