import { elementTypes } from '../emitter.ts'
import type { Graph } from '../graph.ts'
import type { Dtype } from '../record.ts'

/** What ONNX calls numbers of 64 bits; tfjs has none, but they hold every int32. */
const double = 11

/**
 * A value of one type in another. Floats become whole numbers as in JavaScript: cut towards zero, modulo 2^32, and 0
 * where they are not a number or infinite; by way of int64, since the runtime's direct way gives the lowest number.
 */
export function castTo(graph: Graph, name: string, from: Dtype, to: Dtype): string {
  if (from === to) return name
  const whole = from === 'float32' && to === 'int32' ? graph.emit('Cast', [name], { to: elementTypes.int64 }) : name
  return graph.emit('Cast', [whole], { to: elementTypes[to] })
}

/** Computes on int32 operands in double precision, where integer arithmetic could stop the process or overflow. */
export function inDouble(graph: Graph, names: string[], build: (names: string[]) => string): string {
  const wide = build(names.map((name) => graph.emit('Cast', [name], { to: double })))
  const whole = graph.emit('Cast', [wide], { to: elementTypes.int64 })
  return graph.emit('Cast', [whole], { to: elementTypes.int32 })
}
