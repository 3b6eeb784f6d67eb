// A training step of several nets on our engines and on PyTorch (eager, on the processor), side by side:
//   npm run bench -- engine [--only NET,...] [--rounds N] [--threads N,...] [--python PATH] [--save]
// Each engine computes in a process of its own, one at a time; rounds are interleaved and the median counts. Both sides
// start from the same numbers, take the same steps and read the loss of each. 'tensorflow' is among ours where it was
// built.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { childEnvironment } from '../src/config.ts'
import { builtIn } from '../src/engine/native/build.ts'
import { builtFolder } from '../src/engine/native.ts'
import { processor } from '../src/engine/started.ts'
import { type Options, parseOptions } from './engine/options.ts'
import { type Player, startPlayer } from './engine/player.ts'
import { compare, geometricMean, header, line, peaksOf, type ResultRow, type Timing } from './engine/report.ts'
import { type Row, rows } from './engine/rows.ts'
import { drawState, writeState } from './engine/state.ts'

/** A round takes at least so long, so that starting and stopping do not count. */
const roundMilliseconds = 300
/** Bound on the relative difference between the losses of two sides after one step. */
const lossTolerance = 1e-3

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

function startOurs(name: string, threads: number): Player {
  const command = [process.execPath, '--import', 'tsx', here('engine/child.ts'), name, String(threads)] as const
  return startPlayer({ name, threads, variants: () => ['ours'] }, [...command], childEnvironment(threads))
}

/** With our settings of the memory allocator, which make PyTorch faster too. */
function startTorch(python: string, threads: number): Player {
  const variants = ({ loss }: { loss: string }) =>
    loss === 'patches' ? ['unfold', 'index'] : ['contiguous', 'channels_last']
  const environment = { ...process.env, ...childEnvironment(threads), OMP_NUM_THREADS: String(threads) }
  return startPlayer(
    { name: 'torch', threads, variants },
    [python, here('engine/peer.py'), String(threads)],
    environment,
  )
}

/** Those of the players whose process starts and answers, with their versions; says why of the others. */
async function gather(all: readonly Player[]): Promise<{ players: Player[]; versions: Record<string, string> }> {
  const players: Player[] = []
  const versions: Record<string, string> = {}
  for (const player of all) {
    try {
      versions[player.name] = (await player.ask<{ version: string }>({ command: 'hello' })).version
      players.push(player)
    } catch (error) {
      const cure = player.name === 'torch' ? " ('pip install torch'; --python names the python that has it)" : ''
      console.error(`without ${player.name} on ${player.threads} threads: ${(error as Error).message}${cure}`)
    }
  }
  return { players, versions }
}

interface Case extends Timing {
  player: Player
  steps: number
  milliseconds: number[]
}

async function prepare(row: Row, players: readonly Player[], file: string): Promise<Case[]> {
  const tensors = writeState(drawState(row), file)
  const cases: Case[] = []
  for (const player of players)
    for (const variant of player.variants(row)) {
      try {
        const { losses } = await player.ask<Pick<Case, 'losses'>>({ command: 'prepare', row, file, tensors, variant })
        const { milliseconds } = await player.ask<{ milliseconds: number }>({ command: 'steps', count: 1, variant })
        const steps = Math.ceil(roundMilliseconds / milliseconds)
        if (steps > 1) await player.ask({ command: 'steps', count: steps, variant })
        cases.push({ player, engine: player.name, threads: player.threads, variant, losses, steps, milliseconds: [] })
      } catch (error) {
        console.error(`${row.name} does not run on ${player.name}: ${(error as Error).message}`)
        process.exitCode = 1
      }
    }
  return cases
}

async function measure(row: Row, players: readonly Player[], rounds: number, file: string): Promise<Timing[]> {
  const cases = await prepare(row, players, file)
  for (let round = 0; round < rounds; round++)
    // Back and forth, so that nobody always comes after the same neighbour.
    for (const { player, variant, steps, milliseconds } of round % 2 === 0 ? cases : cases.toReversed())
      milliseconds.push(
        (await player.ask<{ milliseconds: number }>({ command: 'steps', count: steps, variant })).milliseconds,
      )
  for (const player of new Set(cases.map((own) => own.player))) await player.ask({ command: 'release' })
  return cases
}

function refuseDifferentLosses(found: readonly ResultRow[]): void {
  for (const { name, engine, threads, lossDifference } of found) {
    if (lossDifference === null || lossDifference <= lossTolerance) continue
    console.error(`${name}: the loss on ${engine} with ${threads} threads is off PyTorch's by ${lossDifference}`)
    process.exitCode = 1
  }
}

/** GFLOP/s of a large matrix product, by engine and number of threads. */
async function measureMatmuls(players: readonly Player[]): Promise<Record<string, Record<number, number>>> {
  const found: Record<string, Record<number, number>> = {}
  for (const player of players) {
    const { gflops } = await player.ask<{ gflops: number }>({ command: 'peak' })
    found[player.name] = { ...found[player.name], [player.threads]: Math.round(gflops) }
  }
  return found
}

async function play({ only, rounds }: Options, all: readonly Player[], folder: string) {
  const { players, versions } = await gather(all)
  const matmulGflops = await measureMatmuls(players)
  const peaks = peaksOf(matmulGflops)
  const found: ResultRow[] = []
  console.log(header)
  for (const row of rows.filter(({ name }) => only.includes(name))) {
    const own = compare(row, await measure(row, players, rounds, join(folder, 'state.bin')), peaks)
    for (const result of own) console.log(line(result))
    refuseDifferentLosses(own)
    found.push(...own)
  }
  return {
    bench: 'engine',
    rows: found,
    geometricMean: geometricMean(found, 'machine'),
    geometricMeanOnnx: geometricMean(found, 'onnx'),
    torch: versions.torch ?? null,
    versions: { node: process.versions.node, ...versions },
    machine: `${processor()}, ${availableParallelism()} cores`,
    peakGflops: peaks,
    matmulGflops,
  }
}

function save(result: object, words: readonly string[]): void {
  const date = new Date().toISOString()
  const file = here(`results/engine-${date.slice(0, 10)}.json`)
  mkdirSync(here('results'), { recursive: true })
  const command = `npm run bench -- engine ${words.join(' ')}`
  writeFileSync(file, `${JSON.stringify({ date, command, ...result }, null, 2)}\n`)
}

function readOptions(words: readonly string[]): Options {
  try {
    return parseOptions(words)
  } catch (error) {
    console.error((error as Error).message)
    process.exit(2)
  }
}

const words = process.argv.slice(3)
const options = readOptions(words)
const folder = mkdtempSync(join(tmpdir(), 'engine-bench-'))
const ours = ['machine', 'onnx', ...(builtIn(builtFolder) ? ['tensorflow'] : [])]
const all = [
  ...ours.flatMap((name) => options.threads.map((threads) => startOurs(name, threads))),
  ...(options.threads.includes(1) ? [startOurs('wasm', 1)] : []),
  ...options.threads.map((threads) => startTorch(options.python, threads)),
]
try {
  const result = await play(options, all, folder)
  if (options.save) save(result, words)
  console.log(JSON.stringify(result))
} finally {
  for (const player of all) player.end()
  rmSync(folder, { recursive: true })
}
