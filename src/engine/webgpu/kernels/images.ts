import { cast, floats, type Lowering, shaped } from '../../graph/maps.ts'
import { type Arg, type Node, type Nodes, whole } from '../../graph/node.ts'
import { sizeOf } from '../../recording/shape.ts'
import { numeral } from '../formulas.ts'
import type { Bound } from '../shader.ts'
import { eachShader, elementOf, special } from './each.ts'
import { placesOf } from './gathering.ts'

/** Where along one side of the images a row or column of a crop is, as `at`, from the box's two ends. */
function placeIn(side: number, count: number, own: string, [low, high]: readonly [string, string]): string {
  if (count === 1) return `0.5 * (${low} + ${high}) * ${numeral(side - 1)}`
  return `${low} * ${numeral(side - 1)} + f32(${own}) * ((${high} - ${low}) * ${numeral(side - 1)} / ${numeral(count - 1)})`
}

const cropAndResize: Lowering = (operation, nodes, find) => {
  const { method, extrapolationValue } = operation.attributes as {
    method: 'bilinear' | 'nearest'
    extrapolationValue: number
  }
  const [images, height, width, channels] = operation.shapes[0] as [number, number, number, number]
  const { shape } = operation.outputs[0]!
  const [, high, wide] = shape as [number, number, number, number]
  const given = find(operation.inputs[0]!)
  const x = cast(nodes, whole(given), given.shape, 'float32').node
  const boxes = find(operation.inputs[1]!)
  const of = placesOf(operation, 2, nodes, find)
  const read = (row: string, column: string) =>
    `x[((n * ${height}u + u32(${row})) * ${width}u + u32(${column})) * ${channels}u + c]`
  // tfjs takes the upper one of two that are equally near.
  const closest = `y[i] = ${read('floor(down + 0.5)', 'floor(across + 0.5)')};`
  const between = `let top = floor(down);
let left = floor(across);
let a = ${read('top', 'left')};
let b = ${read('ceil(down)', 'left')};
let upper = a + (${read('top', 'ceil(across)')} - a) * (across - left);
let lower = b + (${read('ceil(down)', 'ceil(across)')} - b) * (across - left);
y[i] = upper + (lower - upper) * (down - top);`
  const own = special('crop', [x, boxes, of], (self, work) => {
    const code = `let c = i % ${channels}u;
let at = i / ${channels}u;
let column = at % ${wide}u;
let row = at / ${wide}u % ${high}u;
let box = at / ${wide * high}u;
let n = u32(images[box]);
let down = ${placeIn(height, high, 'row', ['boxes[4u * box]', 'boxes[4u * box + 2u]'])};
let across = ${placeIn(width, wide, 'column', ['boxes[4u * box + 1u]', 'boxes[4u * box + 3u]'])};
if (n >= ${images}u) {
y[i] = 0f;
} else if (!(down >= 0f && down <= ${numeral(height - 1)} && across >= 0f && across <= ${numeral(width - 1)})) {
y[i] = ${numeral(extrapolationValue)};
} else {
${method === 'nearest' ? closest : between}
}`
    const bound: Bound[] = [
      { name: 'x', of: x, element: 'f32' },
      { name: 'boxes', of: boxes, element: 'f32' },
      { name: 'images', of, element: 'i32' },
      { name: 'y', of: self, element: 'f32', writes: true },
    ]
    return [eachShader(work(bound), sizeOf(shape), code)]
  })
  return nodes.special(shape, 'float32', own)
}

/** For each number of x [..., channels] the sum of those of the channels around it. */
function sumsAround(nodes: Nodes, x: Node, radius: number): Node {
  const channels = x.shape.at(-1)!
  const own = special('sums around', [x], (self, work) => {
    const code = `let c = i % ${channels}u;
let begin = i - c;
var sum = 0f;
for (var j = max(c, ${radius}u) - ${radius}u; j < min(c + ${radius + 1}u, ${channels}u); j++) { sum += x[begin + j]; }
y[i] = sum;`
    const bound: Bound[] = [
      { name: 'x', of: x, element: elementOf(x) },
      { name: 'y', of: self, element: 'f32', writes: true },
    ]
    return [eachShader(work(bound), sizeOf(x.shape), code)]
  })
  return nodes.special(x.shape, 'float32', own)
}

/** Of the channels around each one (Krizhevsky et al., 2012, section 3.3). */
interface Normalisation {
  depthRadius: number
  bias: number
  alpha: number
  beta: number
}

/** What makes the arithmetic of one shape short to write. */
function arithmetic(nodes: Nodes, shape: readonly number[]) {
  const number = (value: number): Arg => ({ node: nodes.constant(value), strides: shape.map(() => 0), offset: 0 })
  const arg = (of: Node | number) => (typeof of === 'number' ? number(of) : whole(of, shape))
  return (formula: 'add' | 'subtract' | 'multiply' | 'divide' | 'power', a: Node | number, b: Node | number): Node =>
    nodes.map(formula, [arg(a), arg(b)], shape, 'float32')
}

function normOf(nodes: Nodes, x: Node, { depthRadius, bias, alpha }: Normalisation): Node {
  const compute = arithmetic(nodes, x.shape)
  const sums = sumsAround(nodes, compute('multiply', x, x), depthRadius)
  return compute('add', compute('multiply', sums, alpha), bias)
}

const localResponse: Lowering = (operation, nodes, find) => {
  floats(operation)
  const normalisation = operation.attributes as unknown as Normalisation
  const x = shaped(operation, 0, nodes, find)
  const compute = arithmetic(nodes, x.shape)
  return compute('multiply', x, compute('power', normOf(nodes, x, normalisation), -normalisation.beta))
}

/** dx = dy norm^-beta - 2 alpha beta x (sum over the neighbours of dy y / norm). */
const localResponseGradient: Lowering = (operation, nodes, find) => {
  floats(operation)
  const normalisation = operation.attributes as unknown as Normalisation
  const { alpha, beta, depthRadius } = normalisation
  const [x, y, dy] = [0, 1, 2].map((i) => shaped(operation, i, nodes, find)) as [Node, Node, Node]
  const compute = arithmetic(nodes, x.shape)
  const norm = normOf(nodes, x, normalisation)
  const own = compute('multiply', dy, compute('power', norm, -beta))
  const shares = compute('divide', compute('multiply', dy, y), norm)
  const others = compute('multiply', x, sumsAround(nodes, shares, depthRadius))
  return compute('subtract', own, compute('multiply', others, 2 * alpha * beta))
}

/** Operations on images other than those that pool or resize them, by kind. */
export const imaging: Readonly<Record<string, Lowering>> = {
  CropAndResize: cropAndResize,
  LRN: localResponse,
  LRNGrad: localResponseGradient,
}
