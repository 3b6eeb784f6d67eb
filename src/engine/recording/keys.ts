import type { Operation, Value } from './record.ts'
import type { Attributes } from './trace.ts'

/** What has to be computed for some values, in an order in which it can be. */
export interface Plan {
  /** Equal for graphs of the same structure, whatever their numbers. */
  key: string
  operations: Operation[]
  leaves: Value[]
}

/** Attributes as text, different for different ones: JSON alone says null of every number that is not finite. */
export function textOf(attributes: object): string {
  const text = JSON.stringify(attributes)
  if (!text.includes('null')) return text
  return JSON.stringify(attributes, (_, value) =>
    Number.isFinite(value) || typeof value !== 'number' ? value : `${value}`,
  )
}

const words = new Map<string, number>()
let buffer = new Int32Array(1 << 12)
let length = 0

function put(number: number): void {
  if (length === buffer.length) {
    const larger = new Int32Array(2 * length)
    larger.set(buffer)
    buffer = larger
  }
  buffer[length++] = number
}

function putShape(shape: readonly number[]): void {
  put(shape.length)
  for (let i = 0; i < shape.length; i++) put(shape[i]!)
}

/** A number for a word, the same each time. */
function numberOf(word: string): number {
  let number = words.get(word)
  if (number === undefined) {
    number = words.size
    words.set(word, number)
  }
  return number
}

function putAttributes(attributes: Attributes | undefined): void {
  put(attributes === undefined ? -1 : numberOf(textOf(attributes)))
}

function markNeeded(recorded: readonly Operation[], roots: readonly Value[]): void {
  for (const root of roots) root.operation!.needed = true
  for (let i = recorded.length - 1; i >= 0; i--) {
    const operation = recorded[i]!
    if (!operation.needed) continue
    for (const { operation: earlier } of operation.inputs) if (earlier) earlier.needed = true
  }
}

function putOperation({ kind, attributes, inputs, shapes, outputs }: Operation): void {
  put(numberOf(kind))
  putAttributes(attributes)
  put(inputs.length)
  for (let i = 0; i < inputs.length; i++) {
    const value = inputs[i]!
    put(value.place)
    put(value.operation ? value.output : -1)
    const seen = shapes[i]!
    if (seen === value.shape) put(-1)
    else putShape(seen)
  }
  put(outputs.length)
  for (const { dtype, shape } of outputs) {
    put(numberOf(dtype))
    putShape(shape)
  }
}

/**
 * What of the recorded operations, which are in the order of their recording, the roots need. The key says kinds,
 * attributes, wiring, the shapes in which inputs are seen, types and shapes of leaves and results, and which values
 * are asked for.
 */
export function planFor(recorded: readonly Operation[], roots: readonly Value[]): Plan {
  markNeeded(recorded, roots)
  const operations: Operation[] = []
  const leaves: Value[] = []
  length = 0
  for (const operation of recorded) {
    if (!operation.needed) continue
    operation.needed = false
    for (const value of operation.inputs) {
      if (value.operation || leaves[value.place] === value) continue
      value.place = leaves.length
      leaves.push(value)
      put(numberOf(value.dtype))
      putShape(value.shape)
    }
    putOperation(operation)
    for (const output of operation.outputs) output.place = operations.length
    operations.push(operation)
  }
  put(-2)
  for (const root of roots) {
    put(root.place)
    put(root.output)
  }
  const key = Buffer.from(buffer.buffer, 0, 4 * length).toString('latin1')
  return { key, operations, leaves }
}
