import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism, loadavg } from 'node:os'
import { fileURLToPath } from 'node:url'
import { processor } from '../../src/engine/started.ts'

export async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  await work()
  return performance.now() - began
}

/** The value that this share of the others does not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
}

export const median = (values: readonly number[]) => quantile(values, 0.5)

export function rounded(value: number, digits = 1): number {
  return Number(value.toFixed(digits))
}

export async function repeated<T>(times: number, work: (round: number) => Promise<T>): Promise<T[]> {
  const found: T[] = []
  for (let round = 0; round < times; round++) found.push(await work(round))
  return found
}

/** What the figures were taken on; a load above 0 at the start says that something else was at work. */
export function machine(): { machine: string; loadBefore: number } {
  return { machine: `${processor()}, ${availableParallelism()} cores`, loadBefore: rounded(loadavg()[0]!, 2) }
}

/** Writes bench/results/NAME-DATE.json. */
export function keep(name: string, words: readonly string[], result: object): void {
  const folder = fileURLToPath(new URL('../results/', import.meta.url))
  const date = new Date().toISOString()
  const command = ['npm run bench --', name, ...words].join(' ')
  mkdirSync(folder, { recursive: true })
  const text = JSON.stringify({ date, command, ...result }, null, 2)
  writeFileSync(`${folder}${name}-${date.slice(0, 10)}.json`, `${text}\n`)
}
