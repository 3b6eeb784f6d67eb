// What the GPU bench makes of its measurements.
import type { EngineRecord } from '../../src/experiments/run.ts'
import { costOf, type Row } from './rows.ts'
import type { Steps } from './training.ts'

/** The card by our engine, and by PyTorch where that is; null where not measured. */
export interface Rates {
  matmulTflops: number | null
  copyGBs: number | null
}

/** What the child of a row told. */
export interface Told {
  engine?: EngineRecord
  steps: Steps[]
  seconds?: number
  /** Why it ended early. */
  error?: string
}

export type Precision = 'fp32' | 'tf32'

/** PyTorch's best of a row. */
export type Peer = Partial<Record<Precision, { imagesPerSecond?: number; seconds?: number }>>

export interface Result {
  name: string
  batch: number | null
  imagesPerSecond: number | null
  milliseconds: number | null
  seconds: number | null
  tflops: number | null
  /** Of the card's fastest matrix product in float32, and of its copy. */
  matmulShare: number | null
  copyShare: number | null
  torch: Record<Precision, number | null>
  /** Above 1: ours is faster. */
  ratio: Record<Precision, number | null>
  /** All batch sizes that were tried. */
  steps: Steps[]
  error: string | null
}

export const fastestOf = (steps: readonly Steps[]): Steps | undefined =>
  steps.toSorted((a, b) => b.imagesPerSecond - a.imagesPerSecond)[0]

/** A row's measurements, compared. */
export function compare(row: Row, told: Told, peer: Peer, rates: Rates): Result {
  const best = fastestOf(told.steps)
  const cost = costOf(row)
  const seconds = told.seconds ?? null
  // Images a second, or whole clusterings.
  const speed = best?.imagesPerSecond ?? (seconds === null ? null : 1 / seconds)
  const tflops = speed === null ? null : (speed * cost.flops) / 1e12
  const copied = speed === null ? null : (speed * cost.bytes) / 1e9
  const share = (of: number | null, all: number | null) => (of === null || !all ? null : of / all)
  const peers = (['fp32', 'tf32'] as const).map((precision) => {
    const own = peer[precision]
    return [precision, own?.imagesPerSecond ?? (own?.seconds ? 1 / own.seconds : null)] as const
  })
  return {
    name: row.name,
    ...{ batch: best?.batch ?? null, imagesPerSecond: best?.imagesPerSecond ?? null },
    ...{ milliseconds: best?.milliseconds ?? null, seconds, tflops },
    ...{ matmulShare: share(tflops, rates.matmulTflops), copyShare: share(copied, rates.copyGBs) },
    torch: Object.fromEntries(peers) as Result['torch'],
    ratio: Object.fromEntries(peers.map(([precision, own]) => [precision, share(speed, own)])) as Result['ratio'],
    ...{ steps: told.steps, error: told.error ?? null },
  }
}

const number = (value: number | null, digits = 0, unit = '') =>
  value === null ? '-' : `${value.toFixed(digits)}${unit}`
const percent = (value: number | null) => number(value === null ? null : 100 * value, 0, ' %')

export const header = [
  'row'.padEnd(34),
  ...['batch', 'images/s', 'ms', 'TFLOP/s', 'of matmul', 'of copy', 'torch fp32', 'ratio', 'torch tf32', 'ratio'].map(
    (word) => word.padStart(10),
  ),
].join(' ')

export function line(result: Result): string {
  const { name, batch, imagesPerSecond, milliseconds, seconds, tflops, torch, ratio, error } = result
  const speed = seconds === null ? number(imagesPerSecond) : number(seconds, 3, ' s')
  const others = (['fp32', 'tf32'] as const).flatMap((precision) => {
    const own = torch[precision]
    return [
      seconds === null ? number(own) : number(own === null ? null : 1 / own, 3, ' s'),
      number(ratio[precision], 2),
    ]
  })
  const cells = [number(batch), speed, number(milliseconds, 1), number(tflops, 2)]
  const shares = [percent(result.matmulShare), percent(result.copyShare)]
  const text = [name.padEnd(34), ...[...cells, ...shares, ...others].map((cell) => cell.padStart(10))].join(' ')
  return error ? `${text}\n  ${tflops === null ? 'not measured' : 'ended'}: ${error}` : text
}
