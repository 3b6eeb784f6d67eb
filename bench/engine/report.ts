import { type Row, stepFlops } from './rows.ts'

/** One side on one row. */
export interface Timing {
  engine: string
  threads: number
  variant: string
  /** Of each round, per step. */
  milliseconds: readonly number[]
  /** Before the first step and after it. */
  losses: readonly number[]
}

/** A row of the result: one of our engines on one net. */
export interface ResultRow {
  name: string
  engine: string
  threads: number
  batch: number
  milliseconds: number
  /** The fastest and the slowest round. */
  spread: readonly [number, number]
  gflops: number
  /** Of the machine's matmul peak with as many threads; null where that was not measured. */
  peakShare: number | null
  /** Of PyTorch's faster form with as many threads; null without PyTorch. */
  torchMilliseconds: number | null
  torchVariant: string | null
  torchSpread: readonly [number, number] | null
  /** PyTorch's time over ours, of the medians. */
  ratio: number | null
  /** The same of the fastest rounds, which say more where other processes disturb. */
  bestRatio: number | null
  /** Relative, to PyTorch's loss after one step. */
  lossDifference: number | null
}

/** Of an even number of values the lower one in the middle. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[(values.length - 1) >> 1]!
}

const round = (value: number, digits: number) => Number(value.toFixed(digits))
const spreadOf = (values: readonly number[]) => [round(Math.min(...values), 2), round(Math.max(...values), 2)] as const

/** The machine's peak by number of threads: the fastest matrix product of any engine. */
export function peaksOf(matmuls: Readonly<Record<string, Readonly<Record<number, number>>>>): Record<number, number> {
  const peaks: Record<number, number> = {}
  for (const found of Object.values(matmuls))
    for (const [threads, gflops] of Object.entries(found))
      peaks[Number(threads)] = Math.max(peaks[Number(threads)] ?? 0, gflops)
  return peaks
}

/** The rows of one net: each of ours beside the faster form of PyTorch with as many threads. */
export function compare(row: Row, timings: readonly Timing[], peaks: Readonly<Record<number, number>>): ResultRow[] {
  const torch = timings.filter(({ engine }) => engine === 'torch')
  return timings
    .filter(({ engine }) => engine !== 'torch')
    .map(({ engine, threads, milliseconds, losses }) => {
      const own = median(milliseconds)
      const [peer] = torch
        .filter((timing) => timing.threads === threads)
        .sort((a, b) => median(a.milliseconds) - median(b.milliseconds))
      const gflops = stepFlops(row) / own / 1e6
      const peak = peaks[threads]
      return {
        ...{ name: row.name, engine, threads, batch: row.batch, milliseconds: round(own, 2) },
        spread: spreadOf(milliseconds),
        gflops: round(gflops, 1),
        peakShare: peak ? round(gflops / peak, 3) : null,
        torchMilliseconds: peer ? round(median(peer.milliseconds), 2) : null,
        torchVariant: peer ? peer.variant : null,
        torchSpread: peer ? spreadOf(peer.milliseconds) : null,
        ratio: peer ? round(median(peer.milliseconds) / own, 3) : null,
        bestRatio: peer ? round(Math.min(...peer.milliseconds) / Math.min(...milliseconds), 3) : null,
        lossDifference: peer ? Math.abs(losses[1]! / peer.losses[1]! - 1) : null,
      }
    })
}

/** Of the ratios of one engine; null where there is none. */
export function geometricMean(rows: readonly ResultRow[], engine: string): number | null {
  const ratios = rows.flatMap((row) => (row.engine === engine && row.ratio !== null ? [row.ratio] : []))
  if (ratios.length === 0) return null
  return round(Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length), 3)
}

const columns = [
  'net',
  'engine',
  'threads',
  'ms/step',
  'from',
  'to',
  'GFLOP/s',
  'of peak',
  'PyTorch',
  'form',
  'ratio',
  'best',
]
const widths = [8, 10, 7, 9, 9, 9, 8, 8, 9, 14, 6, 6]
const pad = (cells: readonly string[]) => cells.map((cell, i) => cell.padStart(widths[i]!)).join(' ')

/** The line above the rows. */
export const header = pad(columns)

/** A row for reading; '-' where there is no PyTorch. */
export function line(row: ResultRow): string {
  const {
    name,
    engine,
    threads,
    milliseconds,
    spread,
    gflops,
    peakShare,
    torchMilliseconds,
    torchVariant,
    ratio,
    bestRatio,
  } = row
  const measured = [milliseconds, ...spread].map((value) => value.toFixed(2))
  const share = peakShare === null ? '-' : `${(100 * peakShare).toFixed(0)} %`
  const torch = [
    torchMilliseconds?.toFixed(2) ?? '-',
    torchVariant ?? '-',
    ratio?.toFixed(2) ?? '-',
    bestRatio?.toFixed(2) ?? '-',
  ]
  return pad([name, engine, String(threads), ...measured, gflops.toFixed(1), share, ...torch])
}
