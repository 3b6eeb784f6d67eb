import type { Config } from '../config.ts'
import { InvalidDefinition } from '../errors.ts'
import { type RunState, runStates } from '../experiments/run.ts'
import { type Client, openClient } from './client.ts'
import { exitCodes, type Output, table } from './output.ts'
import { readDefinition } from './submit.ts'
import { followRun, type RunView } from './watch.ts'

export async function withClient<T>(config: Config, use: (client: Client) => Promise<T>): Promise<T> {
  const client = openClient({ url: config.url, token: config.token })
  try {
    return await use(client)
  } finally {
    await client.close()
  }
}

function tellEnd(output: Output, run: RunView): number {
  output.result(run, () =>
    run.failure
      ? `${run.state}: ${run.failure.message}\n  what to do: ${run.failure.cure}`
      : `run ${run.id} ${run.state}`,
  )
  return run.state === 'succeeded' ? exitCodes.done : exitCodes.failed
}

/** Posts a definition. Returns the exit code: with `watch`, that of the run. */
export async function submit(config: Config, output: Output, file: string, watched: boolean): Promise<number> {
  const definition = await readDefinition(file)
  return withClient(config, async (client) => {
    const accepted = await client.post<{ experimentId: string; runIds: string[] }>('/v1/experiments', definition)
    const [runId] = accepted.runIds
    if (!watched || !runId) {
      output.result(accepted, () => `experiment ${accepted.experimentId}\nrun ${accepted.runIds.join('\nrun ')}`)
      return exitCodes.done
    }
    output.say(`experiment ${accepted.experimentId}, run ${runId}`)
    return tellEnd(output, await followRun(client, runId, process.stderr))
  })
}

/** Follows a run. Returns 0 where it succeeds, 1 where it fails or is cancelled. */
export async function watch(config: Config, output: Output, id: string): Promise<number> {
  return withClient(config, async (client) => tellEnd(output, await followRun(client, id, process.stderr)))
}

/** Asks a run to stop. Returns the exit code. */
export async function cancel(config: Config, output: Output, id: string): Promise<number> {
  return withClient(config, async (client) => {
    const run = await client.post<{ id: string; state: RunState }>(`/v1/runs/${encodeURIComponent(id)}/cancel`, {})
    output.result(run, () => `run ${run.id} is ${run.state === 'running' ? 'asked to stop' : run.state}`)
    return exitCodes.done
  })
}

const listRuns = `query ($first: Int!, $filter: RunFilter) {
  runs(first: $first, filter: $filter) {
    edges { node { id name state createdAt progress { share step steps loss } failure { code } } }
  }
}`

interface ListedRun {
  id: string
  name: string
  state: RunState
  createdAt: string
  progress: { share: number; step: number; steps: number; loss: number | null } | null
  failure: { code: string } | null
}

/** Lists the newest runs. Returns the exit code. */
export async function runs(config: Config, output: Output, wanted: { state?: string; first: number }): Promise<number> {
  const states = runStates as readonly string[]
  if (wanted.state !== undefined && !states.includes(wanted.state))
    throw new InvalidDefinition(
      [{ pointer: '--state', detail: `no state '${wanted.state}'; there are: ${states.join(', ')}` }],
      'the command',
    )
  const filter = wanted.state ? { state: wanted.state } : {}
  return withClient(config, async (client) => {
    type Answer = { runs: { edges: { node: ListedRun }[] } }
    const answer = await client.query<Answer>(listRuns, { first: wanted.first, filter })
    const rows = answer.runs.edges.map((edge) => edge.node)
    output.result(rows, () =>
      rows.length === 0
        ? 'no runs'
        : table(
            ['id', 'name', 'state', 'done', 'loss', 'posted'],
            rows.map((run) => [
              run.id,
              run.name,
              run.failure ? `${run.state} (${run.failure.code})` : run.state,
              run.progress ? `${Math.floor(run.progress.share * 100)} %` : '',
              run.progress?.loss?.toFixed(3) ?? '',
              run.createdAt,
            ]),
          ),
    )
    return exitCodes.done
  })
}
