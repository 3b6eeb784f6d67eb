// k-means here and by Faiss, side by side:
//   npm run bench -- kmeans [--only ROW,...] [--rounds N] [--threads N] [--engine NAME] [--python PATH] [--save]
// Both have the same points, first centroids, iterations and threads, and end by finding each point's nearest centroid;
// reading the points does not count. Each computes in a process of its own, one at a time; rounds are interleaved and
// the median counts. Without Faiss ('pip install faiss-cpu') only our side is measured.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { childEnvironment } from '../src/config.ts'
import { processor } from '../src/engine/started.ts'
import { type Player, startPlayer } from './engine/player.ts'
import { median } from './engine/report.ts'
import { type Row, rows, writePoints } from './kmeans/rows.ts'

/** What the two inertias may differ by. */
const inertiaTolerance = 1e-3
/** Of our process, points included. */
const memoryBound = 3 * 2 ** 30

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const { values: given } = parseArgs({
  args: process.argv.slice(3),
  options: {
    only: { type: 'string', default: rows.map(({ name }) => name).join(',') },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(availableParallelism()) },
    engine: { type: 'string', default: 'auto' },
    python: { type: 'string', default: 'python3' },
    save: { type: 'boolean', default: false },
  },
})
const threads = Number(given.threads)

interface Answer {
  seconds: number
  inertia: number
  iterations: number
  empties: number
  maxRssBytes: number
}

function startOurs(): Player {
  const command = [process.execPath, '--import', 'tsx', here('kmeans/child.ts'), given.engine, String(threads)] as const
  return startPlayer({ name: 'ours', threads, variants: () => [] }, [...command], childEnvironment(threads))
}

/** Of Faiss each OpenBLAS thread counts too. */
function startFaiss(): Player {
  const environment = { ...process.env, OMP_NUM_THREADS: String(threads), OPENBLAS_NUM_THREADS: String(threads) }
  const command = [given.python, here('kmeans/peer.py'), String(threads)] as const
  return startPlayer({ name: 'faiss', threads, variants: () => [] }, [...command], environment)
}

/** Ours and, where it starts, Faiss' process; says why where not. */
async function start(): Promise<{ players: Player[]; versions: Record<string, string> }> {
  const players: Player[] = []
  const versions: Record<string, string> = {}
  for (const player of [startOurs(), startFaiss()])
    try {
      versions[player.name] = (await player.ask<{ version: string }>({ command: 'hello' })).version
      players.push(player)
    } catch (error) {
      if (player.name === 'ours') throw error
      console.error(`without Faiss ('pip install faiss-cpu'; --python names the python that has it): ${error}`)
    }
  return { players, versions }
}

function complain(row: Row, text: string): void {
  console.error(`${row.name}: ${text}`)
  process.exitCode = 1
}

/** In new processes, so that the memory of one row is not counted with another's. */
async function measure(row: Row, file: string) {
  const { players, versions } = await start()
  const answers = new Map<string, Answer[]>(players.map(({ name }) => [name, []]))
  try {
    const points = writePoints(row, file)
    for (const player of players) await player.ask({ command: 'prepare', row, file, start: points })
    // Once to warm up.
    for (let round = -1; round < Number(given.rounds); round++)
      for (const player of round % 2 === 0 ? players : players.toReversed()) {
        const answer = await player.ask<Answer>({ command: 'cluster' })
        if (round >= 0) answers.get(player.name)!.push(answer)
        if (answer.iterations !== row.iterations) complain(row, `${player.name} ended after ${answer.iterations}`)
      }
  } finally {
    for (const player of players) player.end()
  }
  return { ...compare(row, answers.get('ours')!, answers.get('faiss') ?? []), versions }
}

function compare(row: Row, ours: Answer[], faiss: Answer[]) {
  const seconds = median(ours.map((answer) => answer.seconds))
  const faissSeconds = faiss.length > 0 ? median(faiss.map((answer) => answer.seconds)) : null
  const inertiaRatio = faiss.length > 0 ? ours[0]!.inertia / faiss[0]!.inertia : null
  const maxRssBytes = Math.max(...ours.map((answer) => answer.maxRssBytes))
  if (inertiaRatio !== null && Math.abs(inertiaRatio - 1) > inertiaTolerance)
    complain(row, `the inertia is ${inertiaRatio} of Faiss'`)
  if (maxRssBytes > memoryBound) complain(row, `${maxRssBytes} bytes of memory`)
  const { n, d, k, iterations } = row
  const gflops = (2 * n * d * k * (iterations + 1)) / seconds / 1e9
  // Above 1: ours is faster.
  const ratio = faissSeconds === null ? null : faissSeconds / seconds
  return { n, d, k, iterations, seconds, faissSeconds, ratio, inertiaRatio, gflops, maxRssBytes }
}

const folder = mkdtempSync(join(tmpdir(), 'kmeans-bench-'))
const found: Awaited<ReturnType<typeof measure>>[] = []
try {
  for (const row of rows.filter(({ name }) => given.only.split(',').includes(name))) {
    const result = await measure(row, join(folder, 'points.bin'))
    const { n, d, k, iterations, seconds, faissSeconds, ratio, inertiaRatio, gflops, maxRssBytes } = result
    const memory = `${(maxRssBytes / 2 ** 30).toFixed(2)} GiB`
    console.log(
      `${n} x ${d}, k ${k}, ${iterations} iterations: ${seconds.toFixed(3)} s (${gflops.toFixed(0)} GFLOP/s, ${memory})`,
      faissSeconds === null
        ? ''
        : `Faiss ${faissSeconds.toFixed(3)} s, ratio ${ratio!.toFixed(2)}, inertia ${inertiaRatio!.toFixed(5)}`,
    )
    found.push(result)
  }
} finally {
  rmSync(folder, { recursive: true })
}
const result = {
  bench: 'kmeans',
  rows: found.map(({ versions: _, ...row }) => row),
  threads,
  versions: { node: process.versions.node, ...found[0]?.versions },
  machine: `${processor()}, ${availableParallelism()} cores`,
}
if (given.save) {
  const date = new Date().toISOString()
  const command = `npm run bench -- kmeans ${process.argv.slice(3).join(' ')}`
  mkdirSync(here('results'), { recursive: true })
  const file = here(`results/kmeans-${date.slice(0, 10)}.json`)
  writeFileSync(file, `${JSON.stringify({ date, command, ...result }, null, 2)}\n`)
}
console.log(JSON.stringify(result))
