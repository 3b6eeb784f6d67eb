import type { Model, Node } from '../emitter.ts'

/** Types of elements, as far as graphs have them. */
export type ElementType = 'float32' | 'double' | 'int32' | 'int64' | 'bool'

/** What CUDA's provider can do of one operator. */
export interface CudaKernel {
  /** Types of the operands that share their type (T in ONNX), for which it has a kernel. */
  types: readonly ElementType[]
  /** Which operands those are. */
  operands: 'all' | readonly number[]
  /** The result's type where it is not theirs. */
  result?: ElementType
}

const floats = ['float32', 'double'] as const
const numbers = ['float32', 'double', 'int32', 'int64'] as const
const anything = ['float32', 'double', 'int32', 'int64', 'bool'] as const
const all = 'all'
const first = [0] as const

const kernel = (
  types: readonly ElementType[],
  operands: CudaKernel['operands'],
  names: string,
  result?: ElementType,
): [string, CudaKernel][] => names.split(' ').map((name) => [name, { types, operands, ...(result && { result }) }])

/**
 * The operators of set 18 that our graphs use and CUDA's provider of ONNX Runtime 1.30 has kernels for, with the types
 * of those, as its list of kernels says (docs/OperatorKernels.md there). Operators in its own domain have its name.
 */
export const cudaKernels: ReadonlyMap<string, CudaKernel> = new Map([
  ...kernel(numbers, all, 'Abs Add Div Max Min Mod Mul Neg Pow Sign Sub'),
  ...kernel(numbers, all, 'Greater GreaterOrEqual Less LessOrEqual', 'bool'),
  ...kernel(anything, all, 'Equal', 'bool'),
  ...kernel(['bool'], all, 'And Not Or'),
  ...kernel(floats, all, 'IsInf IsNaN', 'bool'),
  ...kernel(floats, all, 'AveragePool Ceil Conv ConvTranspose Cos Elu Erf Exp Floor Gemm HardSigmoid LeakyRelu Log'),
  ...kernel(floats, all, 'Einsum MatMul Reciprocal Relu Round Selu Sigmoid Sin Softmax Softplus Sqrt Sum Tanh'),
  ...kernel(floats, all, 'com.microsoft.FusedMatMul MaxPool'),
  ...kernel(floats, first, 'ArgMax ArgMin', 'int64'),
  ...kernel(['float32', 'double', 'int64'], all, 'Clip'),
  ...kernel(numbers, first, 'CumSum ReduceMax ReduceMin ReduceSum Tile TopK'),
  ...kernel(['float32', 'double', 'int32'], first, 'ReduceMean ReduceProd'),
  ...kernel(['float32', 'double', 'int64', 'bool'], first, 'GatherND'),
  ...kernel(['float32', 'double', 'bool'], [0, 2], 'Pad'),
  ...kernel(numbers, [1, 2], 'Where'),
  ...kernel(anything, first, 'Expand Gather Identity Reshape Slice Transpose'),
  ...kernel(anything, first, 'Shape', 'int64'),
  ...kernel(anything, [0, 2], 'ScatterElements ScatterND'),
  ...kernel(anything, all, 'Concat'),
  // Its result has the type that is asked for.
  ...kernel(anything, first, 'Cast'),
])

/** An operator by the name that the table has for it. */
export const nameOf = ({ op, domain }: Pick<Node, 'op' | 'domain'>) => (domain ? `${domain}.${op}` : op)

const castTargets: Readonly<Record<number, ElementType>> = {
  1: 'float32',
  6: 'int32',
  7: 'int64',
  9: 'bool',
  11: 'double',
}

/** What results have that do not have the type of their operands, whether or not CUDA has a kernel. */
const results: Readonly<Record<string, ElementType>> = {
  ...Object.fromEntries([...cudaKernels].flatMap(([name, { result }]) => (result ? [[name, result]] : []))),
}

/** The type of a node's result i, by those of its operands. */
export function resultType(node: Node, types: ReadonlyMap<string, ElementType>, i = 0): ElementType {
  if (node.op === 'Cast') return castTargets[node.attributes.to as number]!
  if (i > 0) return 'int64' // places, of what has the largest and smallest
  const operands = cudaKernels.get(nameOf(node))?.operands
  const shared = operands === undefined || operands === 'all' ? 0 : operands[0]!
  return results[nameOf(node)] ?? types.get(node.inputs[shared]!) ?? 'float32'
}

/** The types of all that a graph begins with. */
export function typesOf({ inputs, constants }: Model): Map<string, ElementType> {
  return new Map<string, ElementType>([
    ...inputs.map(({ name, dtype }) => [name, dtype] as const),
    ...constants.map(({ name, dtype }) => [name, dtype] as const),
  ])
}

/** The type that the operands of a node share. */
export function sharedType(node: Node, types: ReadonlyMap<string, ElementType>): ElementType {
  const operands = cudaKernels.get(nameOf(node))?.operands ?? 'all'
  return types.get(node.inputs[operands === 'all' ? 0 : operands[0]!]!) ?? 'float32'
}

/** Whether CUDA has no kernel for a node. */
export function lacksKernel(node: Node, types: ReadonlyMap<string, ElementType>): boolean {
  const found = cudaKernels.get(nameOf(node))
  return !found?.types.includes(sharedType(node, types))
}
