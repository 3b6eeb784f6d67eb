import type { Metric, Registry } from 'prom-client'
import type { Queue, QueueCounts } from '../jobs/queue.ts'
import type { Census, CountedWorker } from '../store/census.ts'
import { bounds, type Measured, type TallyName } from '../store/tallies.ts'

/** The lab as Postgres and the queue show it at one moment; a part that did not answer is absent. */
export interface LabState {
  census?: Census
  queue?: QueueCounts
  backend: Queue['backend']
  version: string
}

interface Sample {
  labels?: Record<string, string | number>
  value: number
  metricName?: string
}

interface Family {
  name: string
  help: string
  type: 'gauge' | 'counter' | 'histogram'
  /** Undefined where what it is read from did not answer: a gap is true, a zero would not be. */
  read(state: LabState): Sample[] | undefined
}

const gauge = (name: string, help: string, read: Family['read']): Family => ({
  name,
  help,
  type: 'gauge',
  read,
})

const labelled = (name: string, values: object) =>
  Object.entries(values).map(([label, value]) => ({ labels: { [name]: label }, value: value as number }))

const outcomes = ['succeeded', 'failed', 'cancelled', 'paused', 'released', 'lost']

/** A total that only grows. Where its labels are known beforehand each is there from the start, at 0. */
function counter(name: string, help: string, tally: TallyName, label?: string, known: readonly string[] = []): Family {
  return {
    ...{ name, help, type: 'counter' },
    read({ census }) {
      const totals = census?.totals.filter((total) => total.name === tally)
      if (!label) return totals && [{ value: totals.reduce((sum, total) => sum + total.count, 0) }]
      const counted = totals?.map((total): [string, number] => [total.label, total.count])
      return (
        counted &&
        labelled(label, { ...Object.fromEntries(known.map((one) => [one, 0])), ...Object.fromEntries(counted) })
      )
    },
  }
}

/** Buckets were counted one by one; Prometheus wants each with all below it. */
function histogram(name: string, help: string, tally: Measured): Family {
  return {
    ...{ name, help, type: 'histogram' },
    read({ census }) {
      const totals = census?.totals.filter((total) => total.name === tally)
      if (!totals) return undefined
      const upTo = (end: number) =>
        totals
          .filter(({ label }) => Number(label.replace('+Inf', 'Infinity')) <= end)
          .reduce((sum, { count }) => sum + count, 0)
      return [
        ...bounds[tally].map((le) => ({ metricName: `${name}_bucket`, labels: { le }, value: upTo(le) })),
        { metricName: `${name}_bucket`, labels: { le: '+Inf' }, value: upTo(Infinity) },
        { metricName: `${name}_sum`, value: totals.reduce((all, { sum }) => all + sum, 0) },
        { metricName: `${name}_count`, value: upTo(Infinity) },
      ]
    },
  }
}

/** Workers that have something in common, counted. */
function countWorkers({ census }: LabState): Sample[] | undefined {
  if (!census) return undefined
  const groups = new Map<string, Sample>()
  for (const { state, engine, version } of census.workers) {
    const labels = { state, engine, version }
    const key = JSON.stringify(labels)
    groups.set(key, { labels, value: (groups.get(key)?.value ?? 0) + 1 })
  }
  return [...groups.values()]
}

function slots({ census }: LabState, among: (worker: CountedWorker) => boolean = () => true): Sample[] | undefined {
  if (!census) return undefined
  const online = census.workers.filter((worker) => worker.state === 'online' && among(worker))
  const busy = online.reduce((sum, worker) => sum + worker.busy, 0)
  return labelled('state', { busy, free: Math.max(0, online.reduce((sum, worker) => sum + worker.slots, 0) - busy) })
}

/** A number of the GPU of each worker that is online and knows it. */
function ofGpus(number: (worker: CountedWorker) => number | null): Family['read'] {
  return ({ census }) =>
    census?.workers.flatMap((worker) => {
      const { id, host, state, gpu } = worker
      const value = number(worker)
      return state === 'online' && gpu !== null && value !== null ? [{ labels: { worker: id, host, gpu }, value }] : []
    })
}

const families: readonly Family[] = [
  gauge('gestalt_build_info', 'Always 1; the version of this API process.', ({ version }) => [
    { labels: { version }, value: 1 },
  ]),
  gauge('gestalt_database_up', 'Whether Postgres answered this scrape.', ({ census }) => [{ value: census ? 1 : 0 }]),
  gauge('gestalt_queue_up', 'Whether the queue answered this scrape.', ({ queue, backend }) => [
    { labels: { backend }, value: queue ? 1 : 0 },
  ]),
  gauge(
    'gestalt_jobs',
    'Runs that have not ended, by state.',
    ({ census }) => census && labelled('state', { queued: 0, running: 0, paused: 0, ...census.runs }),
  ),
  gauge('gestalt_queue_jobs', 'Jobs that the queue holds, by state.', ({ queue }) => queue && labelled('state', queue)),
  gauge(
    'gestalt_oldest_waiting_job_age_seconds',
    'For how long the oldest queued run has waited.',
    ({ census }) => census && [{ value: census.oldestWait ?? 0 }],
  ),
  gauge('gestalt_workers', 'Workers of the last day, by state, engine and version.', countWorkers),
  gauge('gestalt_worker_slots', 'Runs that the workers online can perform at once, by whether one is there.', (state) =>
    slots(state),
  ),
  gauge('gestalt_gpu_slots', 'The same of the workers online that compute on a GPU.', (state) =>
    slots(state, ({ gpu }) => gpu !== null),
  ),
  gauge(
    'gestalt_gpu_up',
    'Whether the GPU of a worker serves, as far as its last run showed.',
    ofGpus(({ gpuFault }) => (gpuFault === null ? 1 : 0)),
  ),
  gauge(
    'gestalt_gpu_utilisation_ratio',
    'Share of the time that something computed on the GPU of a worker, as nvidia-smi says.',
    ofGpus(({ gpuUtilisation }) => gpuUtilisation),
  ),
  gauge(
    'gestalt_gpu_memory_bytes',
    'Memory of the GPU that runs of a worker may take.',
    ofGpus(({ gpuMemoryBytes }) => gpuMemoryBytes),
  ),
  gauge(
    'gestalt_gpu_memory_used_bytes',
    'Memory in use on the GPU of a worker, by whomever, as nvidia-smi says.',
    ofGpus(({ gpuUsedBytes }) => gpuUsedBytes),
  ),
  gauge(
    'gestalt_worker_last_heartbeat_timestamp_seconds',
    'When each worker that has not stopped was last heard of.',
    ({ census }) =>
      census?.workers
        .filter(({ state }) => state !== 'stopped')
        .map(({ id, host, heartbeat }) => ({ labels: { worker: id, host }, value: heartbeat })),
  ),
  counter('gestalt_jobs_enqueued_total', 'Attempts that runs were queued for.', 'jobs-enqueued'),
  counter('gestalt_jobs_completed_total', 'Attempts that ended, by outcome.', 'jobs-completed', 'outcome', outcomes),
  counter(
    'gestalt_job_retries_total',
    'Attempts after the first of their run, by how the one before ended.',
    'job-retries',
    'reason',
    ['lost', 'released', 'paused'],
  ),
  histogram(
    'gestalt_job_queue_wait_seconds',
    'From being queued to the beginning of an attempt.',
    'job-queue-wait-seconds',
  ),
  histogram('gestalt_job_duration_seconds', 'From the beginning to the end of an attempt.', 'job-duration-seconds'),
  histogram('gestalt_checkpoint_bytes', 'Sizes of the checkpoints stored.', 'checkpoint-bytes'),
  histogram(
    'gestalt_checkpoint_duration_seconds',
    'Time to encode and store a checkpoint.',
    'checkpoint-duration-seconds',
  ),
  counter('gestalt_metric_points_ingested_total', 'Points of curves that were new.', 'metric-points'),
  counter('gestalt_metric_points_duplicate_total', 'Points of curves that were sent again.', 'metric-points-again'),
  counter('gestalt_images_processed_total', 'Images that training steps were taken on.', 'images'),
]

/** Registers what the lab is asked for at each scrape; `read` is called once for all of them within a moment. */
export function registerLab(registry: Registry, read: () => Promise<LabState>): void {
  for (const family of families) {
    const { name, help, type } = family
    const get = async () => ({ name, help, type, aggregator: 'first', values: (await read().then(family.read)) ?? [] })
    registry.registerMetric({ name, get, reset: () => {} } as unknown as Metric)
  }
}
