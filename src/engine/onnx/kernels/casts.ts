import type { Dtype } from '../../recording/record.ts'
import { elementTypes } from '../emitter.ts'
import type { Graph } from '../graph.ts'

/** What ONNX calls numbers of 64 bits; tfjs has none, but they hold every int32. */
const double = 11

/** Doubles as int32 as in JavaScript: cut towards zero, modulo 2^32, and 0 where they are infinite or no numbers. */
function wrapped(graph: Graph, name: string): string {
  const wide = (value: number) => graph.emit('Cast', [graph.scalar(value)], { to: double })
  const turns = graph.emit('Floor', [graph.emit('Add', [graph.emit('Mul', [name, wide(2 ** -32)]), wide(0.5)])])
  const rest = graph.emit('Sub', [name, graph.emit('Mul', [turns, wide(2 ** 32)])])
  const known = graph.emit('Where', [graph.emit('IsNaN', [rest]), wide(0), rest])
  return graph.emit('Cast', [known], { to: elementTypes.int32 })
}

/** A value of one type in another. */
export function castTo(graph: Graph, name: string, from: Dtype, to: Dtype): string {
  if (from === to) return name
  if (from === 'float32' && to === 'int32') return wrapped(graph, graph.emit('Cast', [name], { to: double }))
  return graph.emit('Cast', [name], { to: elementTypes[to] })
}

/** Computes on int32 operands in double precision, where integer arithmetic could stop the process or overflow. */
export function inDouble(graph: Graph, names: string[], build: (names: string[]) => string): string {
  return wrapped(graph, build(names.map((name) => graph.emit('Cast', [name], { to: double }))))
}
