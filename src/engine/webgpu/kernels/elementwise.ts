import type { FormulaName } from '../../graph/formulas.ts'
import { cast, castNode, copyOf, type Find, type Lowering } from '../../graph/maps.ts'
import { type Arg, type Nodes, spread, whole } from '../../graph/node.ts'
import type { Dtype, Operation } from '../../recording/record.ts'

/** Operands as numbers of a type, each for every number of the result. */
function operandsAs(operation: Operation, dtype: Dtype, nodes: Nodes, find: Find): Arg[] {
  const { shape } = operation.outputs[0]!
  return operation.inputs.map((input, i) => cast(nodes, spread(find(input), operation.shapes[i]!, shape), shape, dtype))
}

const isWhole = ({ inputs }: Operation) => inputs.every(({ dtype }) => dtype !== 'float32')

/** Computed of floats, whatever the operands are, and cut to whole numbers where the result is one. */
const float =
  (formula: FormulaName): Lowering =>
  (operation, nodes, find) => {
    const { shape, dtype } = operation.outputs[0]!
    const { alpha = 0 } = (operation.attributes ?? {}) as { alpha?: number }
    const made = nodes.map(formula, operandsAs(operation, 'float32', nodes, find), shape, 'float32', alpha)
    return castNode(nodes, made, dtype)
  }

/** Of floats where one operand is, else of whole numbers. */
const either =
  (ofFloats: FormulaName, ofWhole: FormulaName): Lowering =>
  (operation, nodes, find) => {
    const { shape, dtype } = operation.outputs[0]!
    const within = isWhole(operation) ? 'int32' : 'float32'
    const formula = isWhole(operation) ? ofWhole : ofFloats
    return castNode(nodes, nodes.map(formula, operandsAs(operation, within, nodes, find), shape, within), dtype)
  }

const wholeOnly =
  (formula: FormulaName): Lowering =>
  (operation, nodes, find) =>
    nodes.map(formula, operandsAs(operation, 'int32', nodes, find), operation.outputs[0]!.shape, 'int32')

/** Whether floats are something. */
const truth =
  (formula: FormulaName): Lowering =>
  (operation, nodes, find) =>
    nodes.map(formula, operandsAs(operation, 'float32', nodes, find), operation.outputs[0]!.shape, 'bool')

/** Of whole numbers with bounds that are known. */
function bounded(operation: Operation, nodes: Nodes, find: Find, ofFloats: FormulaName, bounds: number[]) {
  if (!isWhole(operation)) return float(ofFloats)(operation, nodes, find)
  const { shape, dtype } = operation.outputs[0]!
  const ends = bounds.map(
    (value): Arg => ({ node: nodes.constant(value, 'int32'), strides: shape.map(() => 0), offset: 0 }),
  )
  const args = [...operandsAs(operation, 'int32', nodes, find), ...ends]
  return castNode(nodes, nodes.map(ends.length > 1 ? 'clipWhole' : 'maximumWhole', args, shape, 'int32'), dtype)
}

const addN: Lowering = (operation, nodes, find) => {
  const { shape, dtype } = operation.outputs[0]!
  const within = dtype === 'float32' ? 'float32' : 'int32'
  const [first, ...rest] = operandsAs(operation, within, nodes, find) as [Arg, ...Arg[]]
  if (rest.length === 0)
    return copyOf(operation, nodes, spread(find(operation.inputs[0]!), operation.shapes[0]!, shape))
  const formula = within === 'float32' ? 'add' : 'addWhole'
  const sum = rest.reduce((so, term) => whole(nodes.map(formula, [so, term], shape, within)), first)
  return castNode(nodes, sum.node, dtype)
}

/** The bounds are of the type in which they are compared. */
const clip: Lowering = (operation, nodes, find) => {
  const { shape, dtype } = operation.outputs[0]!
  const within = operation.inputs[1]!.dtype
  const formula = within === 'float32' ? 'clip' : 'clipWhole'
  return castNode(nodes, nodes.map(formula, operandsAs(operation, within, nodes, find), shape, within), dtype)
}

/** Operations on single numbers, of any type, by kind. */
export const elementwise: Readonly<Record<string, Lowering>> = {
  Abs: either('absolute', 'absoluteWhole'),
  Acos: float('acos'),
  Acosh: float('acosh'),
  AddN: addN,
  Asin: float('asin'),
  Asinh: float('asinh'),
  Atan: float('atan'),
  Atan2: float('atan2'),
  Atanh: float('atanh'),
  BitwiseAnd: wholeOnly('and'),
  Ceil: float('ceil'),
  ClipByValue: clip,
  Cos: float('cos'),
  Cosh: float('cosh'),
  Elu: float('elu'),
  EluGrad: float('eluGradient'),
  Erf: float('erf'),
  Exp: float('exp'),
  Expm1: float('expm1'),
  Floor: float('floor'),
  FloorDiv: either('floorDivide', 'floorDivideWhole'),
  IsFinite: truth('isFinite'),
  IsInf: truth('isInfinite'),
  IsNan: truth('isNan'),
  LeakyRelu: float('leakyRelu'),
  Log: float('log'),
  Log1p: float('log1p'),
  Mod: either('modulo', 'moduloWhole'),
  Neg: either('negate', 'negateWhole'),
  Pow: either('power', 'powerWhole'),
  Prelu: float('prelu'),
  RealDiv: either('divide', 'divideWhole'),
  Reciprocal: float('reciprocal'),
  Relu: (operation, nodes, find) => bounded(operation, nodes, find, 'relu', [0]),
  Relu6: (operation, nodes, find) => bounded(operation, nodes, find, 'relu6', [0, 6]),
  Round: float('round'),
  Rsqrt: float('rsqrt'),
  Selu: float('selu'),
  Sigmoid: float('sigmoid'),
  Sign: either('sign', 'signWhole'),
  Sin: float('sin'),
  Sinh: float('sinh'),
  Softplus: float('softplus'),
  Sqrt: float('sqrt'),
  Square: either('square', 'squareWhole'),
  SquaredDifference: either('squaredDifference', 'squaredDifferenceWhole'),
  Step: float('step'),
  Tan: float('tan'),
  Tanh: float('tanh'),
}
