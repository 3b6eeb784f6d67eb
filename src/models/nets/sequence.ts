import type { ImageShape } from '../../data/dataset.ts'
import { InvalidDefinition } from '../../errors.ts'
import { type Tensor, type Tensor4D, tf, type Variable } from '../../tf.ts'
import { type Dice, rollDice } from '../dice.ts'
import type { Ability } from '../method.ts'
import type { Layer, Pass, Shape, Start } from './layer.ts'
import type { LayerPlan, Net, NetPlan } from './net.ts'

const sizeOf = (shape: Shape) => shape.reduce((product, side) => product * side, 1)

type Visit = (layer: Layer, input: Shape, output: Shape, within: boolean) => void

/** Thrown where a layer leaves nothing of what it is given. */
class NothingLeft extends Error {
  readonly layer: Layer
  readonly input: Shape
  constructor(layer: Layer, input: Shape) {
    super(`${layer.name} leaves nothing of ${input.join(' x ')}`)
    this.layer = layer
    this.input = input
  }
}

/** Visits layers in the order in which they are run, those of branches before what adds them. */
function walk(layers: readonly Layer[], from: Shape, visit: Visit, within = false): Shape {
  let shape = from
  for (const layer of layers) {
    const input = shape
    for (const branch of layer.branches ?? []) walk(branch, input, visit, true)
    shape = layer.output(input)
    if (shape.some((side) => side < 1)) throw new NothingLeft(layer, input)
    visit(layer, input, shape, within)
  }
  return shape
}

/** Largest side that is looked at where a net needs larger images than it is given. */
const largestSide = 4096

/** The smallest square images that leave something after each layer. */
function leastSide(layers: readonly Layer[], channels: number): number | undefined {
  for (let side = 1; side <= largestSide; side++)
    try {
      walk(layers, [side, side, channels], () => {})
      return side
    } catch (error) {
      if (!(error instanceof NothingLeft)) throw error
    }
  return undefined
}

function refuse(layers: readonly Layer[], [height, width, channels]: ImageShape, error: unknown): never {
  if (!(error instanceof NothingLeft)) throw error
  const least = leastSide(layers, channels)
  const right = least === undefined ? 'fewer layers' : `at least ${least} x ${least}`
  const what = `layer ${error.layer.name} is given ${error.input.slice(0, 2).join(' x ')} cells and leaves none`
  const detail = `images of ${height} x ${width} are too small: ${what}; ${right} would be right`
  throw new InvalidDefinition([{ pointer: '/name', detail }], 'the net')
}

/** A decoder can go back from every maximum pool whose layers before it it can mirror. */
function abilitiesOf(layers: readonly LayerPlan[]): Ability[] {
  const pools = layers.filter((layer) => layer.kind === 'pool')
  const mirrored = !layers.some(({ kind }) => kind === 'residual') && pools.every((layer) => layer.pool === 'max')
  return pools.length > 0 && mirrored ? ['pools'] : []
}

/** A list of layers by shape. Throws InvalidDefinition where the images are too small for it. */
export function planSequence(layers: readonly Layer[], imageShape: ImageShape): NetPlan {
  const taps: Record<string, Shape> = {}
  const planned: LayerPlan[] = []
  const tensors: Record<string, Shape> = {}
  const cost = { weights: 0, memoryBytes: 0, multiplyAdds: 0 }
  const total = (starts: Record<string, Start>) =>
    Object.values(starts).reduce((sum, { shape }) => sum + sizeOf(shape), 0)
  const visit: Visit = (layer, input, output, within) => {
    if (taps[layer.name]) throw new Error(`two layers are called ${layer.name}`)
    taps[layer.name] = output
    for (const [part, starts] of Object.entries({ weights: layer.weights?.(input), memory: layer.memory?.(input) }))
      for (const [name, { shape }] of Object.entries(starts ?? {})) tensors[`${part}/${layer.name}/${name}`] = shape
    cost.weights += total(layer.weights?.(input) ?? {})
    cost.memoryBytes += 4 * total(layer.memory?.(input) ?? {})
    cost.multiplyAdds += layer.multiplyAdds?.(input, output) ?? 0
    if (!within) planned.push({ ...layer.is, name: layer.name, input, output })
  }
  try {
    walk(layers, imageShape, visit)
  } catch (error) {
    refuse(layers, imageShape, error)
  }
  return { taps, top: layers.at(-1)!.name, layers: planned, tensors, ...cost, abilities: abilitiesOf(planned) }
}

type Named = Record<string, Variable>

function create(starts: Record<string, Start>, dice: Dice, learned: boolean): Named {
  const made = Object.entries(starts).map(([name, { shape, draw }]) => {
    const values = draw(dice)
    return [name, tf.tidy(() => tf.variable(tf.tensor(values, [...shape]), learned))] as const
  })
  return Object.fromEntries(made)
}

/** Taps that are wanted and not found yet, and those found. */
class Wanted {
  readonly found: Record<string, Tensor> = {}
  private readonly missing: Set<string>
  private readonly given: Tensor
  constructor(names: readonly string[], given: Tensor) {
    this.missing = new Set(names)
    this.given = given
  }
  has(name: string): boolean {
    return this.missing.has(name)
  }
  offer(name: string, value: Tensor): void {
    if (!this.missing.delete(name)) return
    // Where a layer hands on what it was given, each tap is still a tensor of its own: whoever wants it disposes it.
    const taken = value === this.given || Object.values(this.found).includes(value)
    this.found[name] = taken ? tf.clone(value) : value
  }
  get complete(): boolean {
    return this.missing.size === 0
  }
  names(): string {
    return [...this.missing].join(', ')
  }
}

/** Runs layers until all that is wanted is found. */
function run(layers: readonly Layer[], from: Tensor, own: Map<Layer, Named>, pass: Pass, wanted: Wanted): Tensor {
  let x = from
  for (let i = 0; i < layers.length && !wanted.complete; i++) {
    let layer = layers[i]!
    const next = layers[i + 1]
    // Together they are one pass over the batch, so the value between exists only where somebody looks at it.
    const together = layer.bearsRelu && next?.is.kind === 'relu' && !wanted.has(layer.name)
    if (layer.branches) {
      const ends = layer.branches.map((branch) => run(branch, x, own, pass, wanted))
      if (wanted.complete) break
      x = tf.add(ends[0]!, ends[1]!)
    } else x = layer.apply(x, own.get(layer)!, pass, together === true)
    if (together) {
      layer = next
      i++
    }
    wanted.offer(layer.name, x)
  }
  return x
}

/** A list of layers with its weights, drawn from `seed`. */
export function buildSequence(layers: readonly Layer[], imageShape: ImageShape, seed: number): Net {
  const plan = planSequence(layers, imageShape)
  const dice = rollDice(seed).for('net')
  const own = new Map<Layer, Named>()
  const [weights, memory]: [Named, Named] = [{}, {}]
  walk(layers, imageShape, (layer, input) => {
    const drawn = create(layer.weights?.(input) ?? {}, dice.for(layer.dice ?? layer.name), true)
    const kept = create(layer.memory?.(input) ?? {}, dice, false)
    for (const [name, variable] of Object.entries(drawn)) weights[`${layer.name}/${name}`] = variable
    for (const [name, variable] of Object.entries(kept)) memory[`${layer.name}/${name}`] = variable
    own.set(layer, { ...drawn, ...kept })
  })
  const forward = (images: Tensor4D, taps: readonly string[], training: boolean, passDice?: Dice) => {
    const wanted = new Wanted(taps, images)
    run(layers, images, own, { training, dice: passDice?.for('dropout') }, wanted)
    if (!wanted.complete) throw new RangeError(`the net has no tap ${wanted.names()}`)
    return wanted.found
  }
  return { plan, weights, memory, forward }
}
