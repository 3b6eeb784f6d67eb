import { tf } from '../../../tf.ts'
import type { Operation } from '../../recording/record.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Trace } from '../../recording/trace.ts'
import type { Graph } from '../graph.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'
import { broadcast } from './binary.ts'

/** a [..., n, m] b [..., m, p], each read transposed where asked. */
export const batchMatMul: Trace = ({ a, b }, attributes, tracer) => {
  const transposeA = Boolean(attributes.transposeA)
  const transposeB = Boolean(attributes.transposeB)
  const rows = a!.shape.at(transposeA ? -1 : -2)!
  const inner = a!.shape.at(transposeA ? -2 : -1)!
  const columns = b!.shape.at(transposeB ? -2 : -1)!
  const innerB = b!.shape.at(transposeB ? -1 : -2)!
  if (inner !== innerB)
    throw new Error(
      `matMul: the inner sides differ, ${inner} and ${innerB}, of [${a!.shape.join(', ')}] and [${b!.shape.join(', ')}] ` +
        `with transposeA ${transposeA} and transposeB ${transposeB}`,
    )
  const batch = broadcast(a!.shape.slice(0, -2), b!.shape.slice(0, -2))
  const shape = [...batch, rows, columns]
  if (inner === 0) return tracer.leaf(new Float32Array(sizeOf(shape)), shape, a!.dtype)
  return tracer.operation('BatchMatMul', [a!, b!], [{ shape, dtype: a!.dtype }], { transposeA, transposeB })
}

const flag = (is: boolean) => (is ? 1 : 0)

function transposed(graph: Graph, operation: Operation, i: number, is: boolean): string {
  const name = graph.plain(operation, i)
  if (!is) return name
  const rank = operation.shapes[i]!.length
  const perm = Array.from({ length: rank }, (_, axis) => axis)
  return graph.transpose(name, [...perm.slice(0, -2), rank - 1, rank - 2])
}

const lowerMatMul: Lowering = (operation, graph) => {
  const { transposeA, transposeB } = operation.attributes as { transposeA: boolean; transposeB: boolean }
  const flags = { transA: flag(transposeA), transB: flag(transposeB) }
  const names = () => [graph.plain(operation, 0), graph.plain(operation, 1)]
  const floats = operation.inputs.every(({ dtype }) => dtype === 'float32')
  const flat = operation.shapes.every(({ length }) => length === 2)
  if (!floats) {
    const operands = [transposed(graph, operation, 0, transposeA), transposed(graph, operation, 1, transposeB)]
    graph.result(operation, graph.emit('MatMul', operands))
  } else if (flat) graph.result(operation, graph.emit('Gemm', names(), flags))
  else if (transposeA || transposeB) graph.result(operation, graph.emit('FusedMatMul', names(), flags, 'com.microsoft'))
  else graph.result(operation, graph.emit('MatMul', names()))
}

const einsum: Trace = (inputs, { equation }, tracer) => {
  const operands = Object.values(inputs)
  const { allDims, summedDims, idDims } = tf.backend_util.decodeEinsumEquation(equation as string, operands.length)
  tf.backend_util.checkEinsumDimSizes(allDims.length, idDims, operands as tf.Tensor[])
  const sides = new Array<number>(allDims.length - summedDims.length)
  for (const [i, dims] of idDims.entries())
    for (const [axis, dim] of dims.entries()) if (dim < sides.length) sides[dim] = operands[i]!.shape[axis]!
  return tracer.operation('Einsum', operands, [{ shape: sides, dtype: operands[0]!.dtype }], { equation })
}

const lowerEinsum: Lowering = (operation, graph) => {
  const { equation } = operation.attributes as { equation: string }
  const names = operation.inputs.map((_, i) => graph.plain(operation, i))
  graph.result(operation, graph.emit('Einsum', names, { equation: equation.replaceAll(' ', '') }))
}

export const product: KernelGroup = {
  traces: { BatchMatMul: batchMatMul, Einsum: einsum },
  lowerings: { BatchMatMul: lowerMatMul, Einsum: lowerEinsum },
}
