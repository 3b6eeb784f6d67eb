import type { Config } from '../config.ts'
import { exitCodes, type Output, size, table } from './output.ts'
import { withClient } from './runs.ts'

const listWorkers = `query {
  workers {
    id host state version engine engineVersion threads device cores memoryBytes concurrency runIds heartbeatAt
    gpuName gpuSlots gpuMemoryBytes gpuFreeBytes gpuUsedBytes gpuUtilisation gpuFault
  }
}`

interface ListedWorker {
  id: string
  host: string
  state: string
  version: string
  engine: string | null
  threads: number | null
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

function row(worker: ListedWorker): string[] {
  const { id, host, state, version, engine, threads, memoryBytes, concurrency, runIds, heartbeatAt } = worker
  const computes = engine ? `${engine}, ${threads ?? '?'} ${threads === 1 ? 'thread' : 'threads'}` : ''
  const busy = `${runIds.length} of ${concurrency}`
  return [id, host, state, version, computes, gpuInWords(worker), size(Number(memoryBytes)), busy, heartbeatAt]
}

/** Lists the workers of the last day. Returns the exit code. */
export async function workers(config: Config, output: Output): Promise<number> {
  return withClient(config, async (client) => {
    const { workers: found } = await client.query<{ workers: ListedWorker[] }>(listWorkers, {})
    const header = ['id', 'host', 'state', 'version', 'computes on', 'GPU', 'memory', 'runs', 'last heard of']
    output.result(found, () => (found.length === 0 ? 'no workers' : table(header, found.map(row))))
    return exitCodes.done
  })
}
