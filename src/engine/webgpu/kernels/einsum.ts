import { folds, mostClasses } from '../../graph/folds.ts'
import { cast, castNode, type Lowering } from '../../graph/maps.ts'
import { type Arg, rowStrides } from '../../graph/node.ts'
import { sizeOf } from '../../recording/shape.ts'
import { numeral } from '../formulas.ts'
import { eachShader, elementOf, special } from './each.ts'
import { placesOf } from './gathering.ts'

/** Products of all operands, summed over what the result lacks: 'ij,jk->ik'. */
const einsum: Lowering = (operation, nodes, find) => {
  const equation = (operation.attributes as { equation: string }).equation.replaceAll(' ', '')
  const [left, right] = equation.split('->') as [string, string]
  const terms = left.split(',')
  const sides = new Map<string, number>()
  for (const [i, term] of terms.entries())
    for (const [axis, name] of [...term].entries()) sides.set(name, operation.shapes[i]![axis]!)
  const names = [...right, ...[...sides.keys()].filter((name) => !right.includes(name))]
  const shape = names.map((name) => sides.get(name)!)
  const { dtype } = operation.outputs[0]!
  const within = dtype === 'float32' ? 'float32' : 'int32'
  const args = terms.map((term, i): Arg => {
    const strides = rowStrides(operation.shapes[i]!)
    const along = (name: string) => [...term].reduce((sum, own, axis) => sum + (own === name ? strides[axis]! : 0), 0)
    return cast(nodes, { node: find(operation.inputs[i]!), strides: names.map(along), offset: 0 }, shape, within)
  })
  const [first, ...rest] = args as [Arg, ...Arg[]]
  const formula = within === 'float32' ? 'multiply' : 'multiplyWhole'
  const whole = (node: Arg['node']): Arg => ({ node, strides: rowStrides(shape), offset: 0 })
  const product = rest.reduce((so, arg) => whole(nodes.map(formula, [so, arg], shape, within)), first)
  const summed = shape.map((_, i) => i >= right.length)
  return castNode(nodes, nodes.fold('sum', product, shape, summed), dtype)
}

/** Where the shared way cannot: of so many classes, or of indices that are no whole numbers. */
const oneHot: Lowering = (operation, nodes, find) => {
  const few = operation.outputs[0]!.shape.at(-1)! <= mostClasses
  if (few && operation.inputs[0]!.dtype === 'int32') return folds.OneHot!(operation, nodes, find)
  const { onValue, offValue } = operation.attributes as { onValue: number; offValue: number }
  const { shape, dtype } = operation.outputs[0]!
  const depth = shape.at(-1)!
  const places = placesOf(operation, 0, nodes, find)
  const own = special('one hot', [places], (self, work) => {
    const value = (number: number) => numeral(number, dtype !== 'float32')
    const code = `y[i] = select(${value(offValue)}, ${value(onValue)}, u32(places[i / ${depth}u]) == i % ${depth}u);`
    return [
      eachShader(
        work([
          { name: 'places', of: places, element: 'i32' },
          { name: 'y', of: self, element: elementOf(self), writes: true },
        ]),
        sizeOf(shape),
        code,
      ),
    ]
  })
  return nodes.special(shape, dtype, own)
}

/** Operations of which the shared forms leave some to others, by kind. */
export const sums: Readonly<Record<string, Lowering>> = { Einsum: einsum, OneHot: oneHot }
