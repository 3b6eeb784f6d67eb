import { isFinished, type Progress, type RunState } from '../experiments/run.ts'
import type { Client } from './client.ts'
import { openProgressBar, progressLine } from './progress-bar.ts'

export interface RunView {
  id: string
  name: string
  state: RunState
  waiting: string | null
  progress: Progress | null
  failure: { code: string; message: string; cure: string } | null
}

const runUpdated = `subscription ($id: ID!) {
  runUpdated(id: $id) {
    id name state waiting
    progress { stage detail epoch epochs step steps loss imagesPerSecond secondsLeft share }
    failure { code message cure }
  }
}`

/** Follows a run to its end with a progress bar; returns how it ended. */
export async function followRun(client: Client, id: string, stream: NodeJS.WriteStream): Promise<RunView> {
  // The subscription is patient with a server that restarts; a run or a server that is not there shall be told at once.
  await client.get(`/v1/runs/${encodeURIComponent(id)}`)
  const bar = openProgressBar(stream)
  let latest: RunView | undefined
  try {
    for await (const { runUpdated: run } of client.subscribe<{ runUpdated: RunView }>(runUpdated, { id })) {
      latest = run
      bar.show(progressLine(run))
      if (isFinished(run.state)) break
    }
  } finally {
    bar.end()
  }
  if (!latest) throw new Error(`the subscription to run ${id} ended without a word`)
  return latest
}
