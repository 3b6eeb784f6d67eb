// Our engine on WebGPU beside the stock backend of TensorFlow.js, kernel by kernel on the same device:
//   npm run bench -- webgpu [--only TEXT,...] [--rounds N] [--gpu NAME] [--tiny] [--save]
//   npm run bench -- webgpu --steps 2000 [--gpu NAME]      memory over so many training steps, ours alone
// The stock one is @tensorflow/tfjs-backend-webgpu, which 'npm ci' installs for development. Each side computes in a
// process of its own, one at a time; rounds are interleaved and the median counts. Each row is computed once on either
// side before, and what they found is compared. --tiny: shapes so small that nothing but starting is measured.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { readConfig } from '../src/config.ts'
import { type Player, startPlayer } from './engine/player.ts'
import { median } from './engine/report.ts'
import { rows, tinyRows } from './webgpu/rows.ts'

/** Of the largest number of a result. */
const tolerance = 1e-4
/** A side computes for at least so long in a round. */
const roundMilliseconds = 500

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const { values: given } = parseArgs({
  args: process.argv.slice(3),
  options: {
    only: { type: 'string', default: '' },
    rounds: { type: 'string', default: '5' },
    gpu: { type: 'string', default: readConfig(process.env).gpu.choice ?? '' },
    tiny: { type: 'boolean', default: false },
    steps: { type: 'string' },
    save: { type: 'boolean', default: false },
  },
})

interface Answer {
  lengths: number[]
  whole: boolean[]
}

interface Found {
  kernel: string
  shape: string
  milliseconds: number
  stockMilliseconds: number | null
  /** Above 1: ours is faster. */
  ratio: number | null
  /** Of the largest number of each result, the largest; of places, the share that differs. */
  difference: number | null
  /** Shaders that the device runs each time, of each side; one of them reads a number. */
  dispatches: number[]
}

const round = (value: number, digits: number) => Number(value.toFixed(digits))

/** What the sides found, result by result. */
function differenceOf({ lengths, whole }: Answer, files: readonly string[]): number {
  const [ours, stock] = files.map((file) => {
    const bytes = readFileSync(file)
    return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
  }) as [Float32Array, Float32Array]
  if (ours.length !== stock.length) return Number.POSITIVE_INFINITY
  let [most, first] = [0, 0]
  for (const [i, length] of lengths.entries()) {
    let [off, size, other] = [0, 0, 0]
    for (let at = first; at < first + length; at++) {
      const apart = Math.abs(ours[at]! - stock[at]!)
      // What is no number on one side only is no agreement.
      if (!(apart <= off)) off = Number.isNaN(apart) ? Number.POSITIVE_INFINITY : apart
      size = Math.max(size, Math.abs(stock[at]!))
      if (apart !== 0) other++
    }
    most = Math.max(most, whole[i] ? other / length : off / (size || 1))
    first += length
  }
  return most
}

const start = (side: string): Player =>
  startPlayer(
    { name: side, threads: 1, variants: () => [] },
    [process.execPath, '--import', 'tsx', here('webgpu/child.ts'), side, given.gpu],
    process.env,
  )

interface Side {
  player: Player
  file: string
  times: number[]
  count: number
}

async function measure(row: number, sides: readonly Side[]): Promise<Found> {
  const { kernel, shape } = (given.tiny ? tinyRows : rows)[row]!
  let answer: Answer | undefined
  for (const { player, file } of sides)
    answer = await player.ask<Answer>({ command: 'prepare', row, tiny: given.tiny, file })
  const difference =
    sides.length > 1
      ? differenceOf(
          answer!,
          sides.map(({ file }) => file),
        )
      : null
  const time = async ({ player }: Side, count: number) =>
    (await player.ask<{ milliseconds: number }>({ command: 'run', count })).milliseconds
  for (const side of sides) {
    side.times = []
    side.count = Math.min(50, Math.ceil(roundMilliseconds / (await time(side, 1))))
  }
  for (let at = 0; at < Number(given.rounds); at++)
    for (const side of at % 2 === 0 ? sides : sides.toReversed()) side.times.push(await time(side, side.count))
  const [milliseconds, stockMilliseconds = null] = sides.map(({ times }) => round(median(times), 3)) as [
    number,
    number?,
  ]
  const ratio = stockMilliseconds === null ? null : round(stockMilliseconds / milliseconds, 3)
  const dispatches: number[] = []
  for (const { player } of sides)
    dispatches.push((await player.ask<{ dispatches: number }>({ command: 'count' })).dispatches)
  return { kernel, shape, milliseconds, stockMilliseconds, ratio, difference, dispatches }
}

function line({ kernel, shape, milliseconds, stockMilliseconds, ratio, difference, dispatches }: Found): string {
  const stock = stockMilliseconds === null ? '' : `, stock ${stockMilliseconds} ms, ratio ${ratio}`
  const apart = difference === null ? '' : `, apart by ${difference.toExponential(1)}`
  return `${kernel} ${shape}: ${milliseconds} ms${stock}${apart}, dispatches ${dispatches.join(' and ')}`
}

async function compareAll() {
  const folder = mkdtempSync(join(tmpdir(), 'webgpu-bench-'))
  const sides: Side[] = []
  let device: object = {}
  for (const name of ['ours', 'stock']) {
    const player = start(name)
    try {
      device = await player.ask({ command: 'hello' })
      sides.push({ player, file: join(folder, name), times: [], count: 1 })
    } catch (error) {
      player.end()
      if (name === 'ours') throw error
      console.error(`without the stock backend: ${(error as Error).message}`)
    }
  }
  const found: Found[] = []
  try {
    for (const [i, { kernel, shape }] of (given.tiny ? tinyRows : rows).entries()) {
      const wanted = given.only.toLowerCase().split(',')
      if (!wanted.some((text) => `${kernel} ${shape}`.toLowerCase().includes(text))) continue
      const result = await measure(i, sides)
      console.log(line(result))
      found.push(result)
      if (result.difference === null || result.difference <= tolerance) continue
      console.error(`${kernel} ${shape}: the sides are apart by ${result.difference}`)
      process.exitCode = 1
    }
  } finally {
    for (const { player } of sides) player.end()
    rmSync(folder, { recursive: true })
  }
  return { bench: 'webgpu', ...device, rows: found }
}

function save(result: object): void {
  const date = new Date().toISOString()
  const command = `npm run bench -- webgpu ${process.argv.slice(3).join(' ')}`
  mkdirSync(here('results'), { recursive: true })
  const file = here(`results/webgpu-${date.slice(0, 10)}.json`)
  writeFileSync(file, `${JSON.stringify({ date, command, ...result }, null, 2)}\n`)
}

let result: object
if (given.steps === undefined) result = await compareAll()
else {
  const { watchMemory } = await import('./webgpu/memory.ts')
  result = { bench: 'webgpu', ...(await watchMemory(Number(given.steps), given.gpu || undefined)) }
}
if (given.save) save(result)
console.log(JSON.stringify(result))
process.exit() // whatever an engine still holds
