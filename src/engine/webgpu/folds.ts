import type { LoopStage, Output } from '../graph/expression.ts'
import type { Fold } from '../graph/node.ts'
import { sizeOf } from '../recording/shape.ts'
import { Bindings, Body, elementOf } from './expressions.ts'
import { formulas, numeral } from './formulas.ts'
import { placeOf, splitIndex } from './indices.ts'
import { operandsOf, walksOf } from './loops.ts'
import { preambleOf } from './preamble.ts'
import { groupIndex, groupsFor, type Scratch, type Shader } from './shader.ts'

type FoldOutput = Extract<Output, { kind: 'fold' }>

const invocations = 256
/** So many workgroups keep a large card busy. */
const enoughGroups = 1024
/** Numbers that an invocation folds by itself at least before work is shared by more workgroups. */
const leastEach = 8
const mostParts = 256

/** How the numbers of a fold are shared: `wide` results and `deep` invocations for each by workgroup, in `parts` of the folded side. */
interface Shape {
  kept: number
  folded: number
  /** Whether results next to each other read numbers next to each other. */
  keptInside: boolean
  wide: number
  deep: number
  parts: number
}

const powerBelow = (n: number) => 2 ** Math.floor(Math.log2(Math.max(1, n)))
const powerAbove = (n: number) => 2 ** Math.ceil(Math.log2(Math.max(1, n)))

function shapeFor(kept: number, folded: number, keptInside: boolean): Shape {
  const enoughResults = kept >= invocations * enoughGroups
  let deep: number
  if (folded <= 8 || (enoughResults && keptInside)) deep = 1
  else if (keptInside) deep = invocations / Math.min(64, powerAbove(kept))
  else deep = Math.min(invocations, powerBelow(folded / 2))
  deep = Math.min(deep, powerAbove(folded))
  const wide = invocations / deep
  const groups = Math.ceil(kept / wide)
  const parts = Math.min(mostParts, Math.ceil(enoughGroups / groups), Math.ceil(folded / (deep * leastEach)))
  return { kept, folded, keptInside, wide, deep, parts: Math.max(1, parts) }
}

function beginning(fold: Fold, element: 'f32' | 'i32'): string {
  if (fold === 'sum') return numeral(0, element === 'i32')
  if (fold === 'product') return numeral(1, element === 'i32')
  const lowest = fold === 'max'
  if (element === 'i32') return numeral(lowest ? -(2 ** 31) : 2 ** 31 - 1, true)
  return numeral(lowest ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY, false)
}

const combining = {
  sum: ['add', 'addWhole'],
  product: ['multiply', 'multiplyWhole'],
  max: ['maximum', 'maximumWhole'],
  min: ['minimum', 'minimumWhole'],
} as const

function combined(fold: Fold, element: 'f32' | 'i32', a: string, b: string): string {
  return formulas[combining[fold][element === 'f32' ? 0 : 1]]([a, b], 0)
}

/** What is folded, and where a result goes. */
interface Folding {
  fold: Fold
  element: 'f32' | 'i32'
}

interface Loads {
  bindings: Bindings
  /** Lines for result `k` and number `r` of it. */
  lines: string[]
  values: string[]
}

/** Results `k` of numbers `r`; the values are stored by `store`, as part `part` of all. */
function foldShader(
  label: string,
  shape: Shape,
  foldings: readonly Folding[],
  { bindings, lines, values }: Loads,
  store: (value: string, i: number) => string,
): Shader {
  const { kept, folded, keptInside, wide, deep, parts } = shape
  const groups = Math.ceil(kept / wide)
  const share = Math.ceil(folded / parts)
  const [column, row] = keptInside ? [`own % ${wide}u`, `own / ${wide}u`] : [`own / ${deep}u`, `own % ${deep}u`]
  const shared =
    deep > 1 ? foldings.map(({ element }, i) => `var<workgroup> s${i}: array<${element}, ${invocations}>;`) : []
  const stores = foldings.map((_, i) => store(`a${i}`, i))
  // The place of another invocation of the same result, so many rows further.
  const further = (by: string) => (keptInside ? `own + ${by} * ${wide}u` : `own + ${by}`)
  const tree =
    deep > 1
      ? [
          ...foldings.map((_, i) => `s${i}[own] = a${i};`),
          'workgroupBarrier();',
          `for (var step = ${deep / 2}u; step > 0u; step /= 2u) {`,
          'if (row < step) {',
          ...foldings.map(
            ({ fold, element }, i) =>
              `s${i}[own] = ${combined(fold, element, `s${i}[own]`, `s${i}[${further('step')}]`)};`,
          ),
          '}',
          'workgroupBarrier();',
          '}',
          ...foldings.map((_, i) => `a${i} = s${i}[own];`),
        ]
      : []
  const main = `${shared.join('\n')}
@compute @workgroup_size(${invocations})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) own: u32) {
let number = ${groupIndex};
let part = number / ${groups}u;
let row = ${row};
let k = (number - part * ${groups}u) * ${wide}u + ${column};
${foldings.map(({ fold, element }, i) => `var a${i} = ${beginning(fold, element)};`).join('\n')}
if (k < ${kept}u && part < ${parts}u) {
let end = min(${folded}u, (part + 1u) * ${share}u);
for (var r = part * ${share}u + row; r < end; r += ${deep}u) {
${lines.join('\n')}
${foldings.map(({ fold, element }, i) => `a${i} = ${combined(fold, element, `a${i}`, values[i]!)};`).join('\n')}
}
}
${tree.join('\n')}
if (row == 0u && k < ${kept}u && part < ${parts}u) {
${stores.join('\n')}
}
}`
  return { label, bound: bindings.bound, code: preambleOf(main) + main, groups: groupsFor(groups * parts) }
}

/** A stage that folds sides: in one shader, or in parts that a second one folds. */
export function foldShaders(stage: LoopStage, label: string): Shader[] {
  const outputs = stage.outputs as readonly FoldOutput[]
  const inOrder = (folded: boolean) =>
    stage.sides.flatMap((side, i) => (stage.folded[i] === folded && side > 1 ? [i] : []))
  const [keptSides, foldedSides] = [inOrder(false), inOrder(true)]
  const operands = outputs.flatMap(({ expression }) => operandsOf(expression))
  const pick = (of: readonly number[], sides: readonly number[]) => sides.map((i) => of[i]!)
  const walk = (sides: readonly number[]) =>
    walksOf(
      pick(stage.sides, sides),
      operands.map((operand) => ({ ...operand, strides: pick(operand.strides, sides) })),
      [],
    )
  const kept = walk(keptSides)
  const folded = walk(foldedSides)
  const [keptWalks, foldedWalks] = [[...kept.walks.values()], [...folded.walks.values()]]
  const last = stage.sides.map((side, i) => (side > 1 ? i : -1)).reduce((a, b) => Math.max(a, b), -1)
  const shape = shapeFor(
    sizeOf(pick(stage.sides, keptSides)),
    sizeOf(pick(stage.sides, foldedSides)),
    last >= 0 && !stage.folded[last],
  )
  const keptPlaces = splitIndex('k', kept.sides, 'p')
  const foldedPlaces = splitIndex('r', folded.sides, 'q')
  const bindings = new Bindings()
  const places = new Map(
    operands.map((operand, i) => {
      const own = placeOf({ ...keptWalks[i]!, offset: operand.offset }, keptPlaces.places)
      const along = placeOf({ ...foldedWalks[i]!, offset: 0 }, foldedPlaces.places)
      return [operand, along === '0u' ? own : `${own} + ${along}`]
    }),
  )
  const body = new Body(bindings, (operand) => places.get(operand)!)
  const values = outputs.map(({ expression }) => body.value(expression))
  const lines = [...keptPlaces.lines, ...foldedPlaces.lines, ...body.lines]
  const foldings = outputs.map(({ fold, node }) => ({ fold, element: elementOf(node) }))
  const loads = { bindings, lines, values }
  if (shape.parts === 1) {
    const names = outputs.map(({ node }) => bindings.write(node, elementOf(node)))
    return [foldShader(label, shape, foldings, loads, (value, i) => `${names[i]}[k] = ${value};`)]
  }
  const { kept: count, parts } = shape
  const partial = foldings.map((_, i): Scratch => ({ scratch: `${label} part ${i}`, bytes: 4 * count * parts }))
  const names = foldings.map(({ element }, i) => bindings.write(partial[i]!, element))
  const first = foldShader(label, shape, foldings, loads, (value, i) => `${names[i]}[part * ${count}u + k] = ${value};`)
  const rest = new Bindings()
  const sources = foldings.map(({ element }, i) => {
    const name = `z${i}`
    rest.bound.push({ name, of: partial[i]!, element })
    return name
  })
  const results = outputs.map(({ node }) => rest.write(node, elementOf(node)))
  const second = { ...shapeFor(count, parts, true), parts: 1 }
  const reads = { bindings: rest, lines: [], values: sources.map((name) => `${name}[r * ${count}u + k]`) }
  return [
    first,
    foldShader(`${label} put together`, second, foldings, reads, (value, i) => `${results[i]}[k] = ${value};`),
  ]
}
