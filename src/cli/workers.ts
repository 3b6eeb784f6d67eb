import type { Config } from '../config.ts'
import { exitCodes, type Output, size, table } from './output.ts'
import { withClient } from './runs.ts'

const listWorkers = `query {
  workers {
    id host state version engine engineVersion threads device cores memoryBytes concurrency runIds heartbeatAt
    gpuName gpuSlots gpuMemoryBytes gpuFreeBytes gpuUsedBytes gpuUtilisation gpuFault
  }
}`

export interface ListedWorker {
  id: string
  host: string
  state: string
  version: string
  engine: string | null
  threads: number | null
  device: string | null
  memoryBytes: number | string
  concurrency: number
  runIds: string[]
  heartbeatAt: string
  gpuName: string | null
  gpuMemoryBytes: number | string | null
  gpuFreeBytes: number | string | null
  gpuUtilisation: number | null
  gpuFault: string | null
}

/** 'NVIDIA H200, 100 of 139 GiB left, 87 % busy'; nothing where runs compute on the processor. */
function gpuInWords(worker: ListedWorker): string {
  const { gpuName, gpuMemoryBytes: all, gpuFreeBytes: free, gpuUtilisation: busy, gpuFault } = worker
  if (gpuName === null) return ''
  const memory = all === null ? '' : `, ${free === null ? '' : `${size(Number(free))} left of `}${size(Number(all))}`
  const use = busy === null ? '' : `, ${Math.round(100 * busy)} % busy`
  return `${gpuName}${memory}${use}${gpuFault === null ? '' : ', DOES NOT SERVE'}`
}

/** 'machine, 2 threads'; a GPU has a column of its own, but not what only looks like one. */
function computesInWords({ engine, threads, device, gpuName }: ListedWorker): string {
  if (engine === null || gpuName !== null) return engine ?? ''
  if (engine === 'webgpu' && device !== null) return `${engine} on ${device}`
  return `${engine}, ${threads ?? '?'} ${threads === 1 ? 'thread' : 'threads'}`
}

function row(worker: ListedWorker): string[] {
  const { id, host, state, version, memoryBytes, concurrency, runIds, heartbeatAt } = worker
  const busy = `${runIds.length} of ${concurrency}`
  const [computes, gpu] = [computesInWords(worker), gpuInWords(worker)]
  return [id, host, state, version, computes, gpu, size(Number(memoryBytes)), busy, heartbeatAt]
}

const header = ['id', 'host', 'state', 'version', 'computes on', 'GPU', 'memory', 'runs', 'last heard of']

/** A table, and below it why GPUs do not serve. */
export function workersInWords(found: readonly ListedWorker[]): string {
  if (found.length === 0) return 'no workers'
  const faults = found.flatMap(({ id, gpuFault }) => (gpuFault === null ? [] : [`the GPU of ${id}: ${gpuFault}`]))
  return [table(header, found.map(row)), ...faults].join('\n')
}

/** Lists the workers of the last day. Returns the exit code. */
export async function workers(config: Config, output: Output): Promise<number> {
  return withClient(config, async (client) => {
    const { workers: found } = await client.query<{ workers: ListedWorker[] }>(listWorkers, {})
    output.result(found, workersInWords)
    return exitCodes.done
  })
}
