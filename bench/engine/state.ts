import { readFileSync, writeFileSync } from 'node:fs'
import { type Dice, rollDice } from '../../src/data/dice.ts'
import { drawRows } from '../../src/models/math/memory-bank.ts'
import { planRow, type Row } from './rows.ts'

/** A tensor of the file that every side reads, in its order. */
export interface Entry {
  name: string
  shape: readonly number[]
}

/** Where a row's training starts: its weights, its batch, and its bank if it has one. */
export type State = Record<string, { shape: readonly number[]; values: Float32Array }>

const product = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)
const fill = (size: number, draw: () => number) => Float32Array.from({ length: size }, draw)

function labels({ batch, slots }: Row, dice: Dice): Float32Array {
  if (slots === undefined) return fill(batch, () => dice.below(10))
  // Each image of a batch is another one.
  const taken = new Set<number>()
  while (taken.size < batch) taken.add(dice.below(slots))
  return Float32Array.from(taken)
}

/** The same numbers whenever it is drawn. */
export function drawState(row: Row): State {
  const dice = rollDice(1).for('engine bench', row.name)
  const plan = planRow(row)
  const state: State = {}
  for (const { name, shape, deviation, constant } of plan.weights) {
    const own = dice.for(name)
    state[name] = { shape, values: fill(product(shape), () => constant + (deviation && deviation * own.normal())) }
  }
  const images = [row.batch, ...row.image]
  const pixels = dice.for('images')
  state.images = { shape: images, values: fill(product(images), () => pixels.uniform()) }
  state.labels = { shape: [row.batch], values: labels(row, dice.for('labels')) }
  if (row.slots !== undefined) {
    const [dimension] = plan.output as [number]
    state.bank = { shape: [row.slots, dimension], values: drawRows(row.slots, dimension, dice.for('bank')) }
  }
  return state
}

/** Writes the numbers, float32 in the machine's order, and tells what lies where. */
export function writeState(state: State, file: string): Entry[] {
  const parts = Object.values(state).map(
    ({ values }) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  )
  writeFileSync(file, Buffer.concat(parts))
  return Object.entries(state).map(([name, { shape }]) => ({ name, shape }))
}

/** What writeState wrote. */
export function readState(file: string, entries: readonly Entry[]): State {
  const bytes = readFileSync(file)
  const all = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  let start = 0
  const read = ({ name, shape }: Entry) => {
    const values = all.slice(start, start + product(shape))
    start += values.length
    return [name, { shape, values }]
  }
  return Object.fromEntries(entries.map(read))
}
