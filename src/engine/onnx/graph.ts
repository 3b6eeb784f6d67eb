import type { Operation, Value } from '../recording/record.ts'
import { sameShape, sizeOf } from '../recording/shape.ts'
import { Emitter, elementTypes, type Model, type Node, type Port } from './emitter.ts'
import { fitsBlocks, type Layout, layoutFree, type Quad } from './layout.ts'

/** scale x base + shift for each channel of a value in blocks, not computed yet; scale and shift are plain [c]. */
export interface Affine {
  base: string
  scale: string | undefined
  shift: string | undefined
}

/** Makes a node again, with what it can do in the same pass. */
export type Remake = (extras: { bias?: string; relu?: boolean }) => string

/**
 * A value in blocks [n, c, 2 h, 2 w] that lies in four parts [n, c, h, w] of every second row and column: first the
 * even rows' even and odd columns, then the odd rows'. Put together only where somebody needs it whole.
 */
export interface Parts {
  names: readonly string[]
  whole(): string
}

/** What is known of one value: its names by layout, made where they are first asked for, and cheaper forms of it. */
interface Known extends Partial<Record<Layout, string>> {
  affine?: Affine
  remake?: Remake
  parts?: Parts
}

/** In which of its forms an operation is written. */
export interface Forms {
  /** How many channels the runtime's fastest convolutions keep side by side; 0 where it has none. */
  blockSize: number
  forCuda?: boolean
}

type Reduction = 'ReduceSum' | 'ReduceMean' | 'ReduceMax' | 'ReduceMin' | 'ReduceProd'

const channelwiseKinds = new Set(['Add', 'Sub', 'Multiply', 'RealDiv'])

/** Where the axes of [n, h, w, c] are in planes, and in blocks seen as [n, c / b, h, w, b]. */
const axesInPlanes = [[0], [2], [3], [1]]
const axesInBlocks = [[0], [2], [3], [1, 4]]

/** A step of what a relu was taken of is a step of its result: what lies before the relu need not be kept for it. */
function stepsOfRelus(operations: readonly Operation[]): void {
  const relus = new Map<Value, Value>()
  for (const { kind, inputs, outputs } of operations) {
    if (kind === 'Relu') relus.set(inputs[0]!, outputs[0]!)
    const relu = kind === 'Step' ? relus.get(inputs[0]!) : undefined
    if (relu) inputs[0] = relu
  }
}

/**
 * An ONNX graph while it is written. Lowerings ask for the names of their operands and say what their results are
 * called; values of rank 4 keep whatever layout they were made in until somebody needs another.
 */
export class Graph extends Emitter {
  readonly blockSize: number
  /** Whether it is made for CUDA, where other forms are fast, or have kernels at all. */
  readonly forCuda: boolean
  private readonly names = new Map<Value, Known>()
  private readonly uses = new Map<Value, number>()
  private readonly leaves: readonly Value[]

  constructor(leaves: readonly Value[], { blockSize, forCuda = false }: Forms) {
    super()
    this.blockSize = blockSize
    this.forCuda = forCuda
    this.leaves = leaves
    for (const [i, leaf] of leaves.entries()) this.names.set(leaf, { plain: `i${i}` })
  }

  /** Told before anything is lowered: what will be, in order, and what has to be there in the end. */
  survey(operations: readonly Operation[], roots: readonly Value[]): void {
    stepsOfRelus(operations)
    const used = [...operations.flatMap(({ inputs }) => inputs), ...roots]
    for (const value of used) this.uses.set(value, (this.uses.get(value) ?? 0) + 1)
  }

  /** From here on nodes carry this kernel's name. */
  begin(operation: Operation): void {
    this.kernel = operation.kind
  }

  /** Operand i in the order of tfjs, in the shape it is seen in. */
  plain(operation: Operation, i: number): string {
    const value = operation.inputs[i]!
    const name = this.named(value, 'plain')
    return sameShape(value.shape, operation.shapes[i]!) ? name : this.reshape(name, operation.shapes[i]!)
  }

  /** Operand i, seen as [n, h, w, c], in another layout. */
  arranged(operation: Operation, i: number, layout: Layout): string {
    const value = operation.inputs[i]!
    const shape = operation.shapes[i]! as unknown as Quad
    if (sameShape(value.shape, shape)) return this.named(value, layout)
    return this.rearrange(this.plain(operation, i), shape, 'plain', layout, value.dtype)
  }

  /** The layout in which operand i exists without any work. */
  layoutOf(operation: Operation, i: number): Layout {
    const value = operation.inputs[i]!
    const names = this.names.get(value)!
    if (!sameShape(value.shape, operation.shapes[i]!)) return 'plain'
    return (names.blocks ?? names.affine ?? names.parts) ? 'blocks' : names.planes !== undefined ? 'planes' : 'plain'
  }

  /** Says that result `output` is called `name`, in the order of tfjs or in another layout. */
  result(operation: Operation, name: string, output = 0, layout: Layout = 'plain'): void {
    this.names.set(operation.outputs[output]!, { [layout]: name })
  }

  /** Says that the result lies in parts. */
  inParts(operation: Operation, parts: Parts): void {
    this.names.set(operation.outputs[0]!, { parts })
  }

  /** The parts of operand i where it lies in such and nobody else needs it. */
  partsOf(operation: Operation, i: number): readonly string[] | undefined {
    const value = operation.inputs[i]!
    const { parts, blocks } = this.names.get(value)!
    const alone = this.uses.get(value) === 1 && blocks === undefined
    return alone && sameShape(value.shape, operation.shapes[i]!) ? parts?.names : undefined
  }

  /** Says that the result, in blocks, can be made again with a bias [c] or a relu in the same pass. */
  remakeable(operation: Operation, remake: Remake): void {
    this.names.set(operation.outputs[0]!, { blocks: remake({}), remake })
  }

  /** Gives the results of an operation on single numbers, of any number of operands that broadcast. */
  elementwise(operation: Operation, build: (names: string[]) => string): void {
    if (this.channelwise(operation)) return
    const { shape } = operation.outputs[0]!
    for (const layout of ['blocks', 'planes'] as const) {
      const whole = operation.inputs.some((value, i) => this.liesIn(value, operation.shapes[i]!, shape, layout))
      const operands = whole ? this.alike(operation, shape as unknown as Quad, layout) : undefined
      if (!operands) continue
      const made = build(operands.names)
      this.result(operation, operands.folded ? this.reshape(made, this.declared(shape)) : made, 0, layout)
      return
    }
    this.result(operation, build(operation.inputs.map((_, i) => this.plain(operation, i))))
  }

  /** Reduces operand 0 over the axes of its tfjs order. */
  reduce(operation: Operation, op: Reduction, axes: readonly number[], keepDims: boolean): void {
    const shape = operation.shapes[0]!
    const layout = this.layoutOf(operation, 0)
    const rest = [0, 1, 2, 3].filter((axis) => !axes.includes(axis)).join()
    // What is left has to lie in the order of tfjs: nothing, channels, images, or images and channels.
    const arranged = layout !== 'plain' && ['', '3', '0', '0,3'].includes(rest)
    if (!arranged) {
      const name = this.emit(op, [this.plain(operation, 0), this.integers(axes)], { keepdims: keepDims ? 1 : 0 })
      this.result(operation, name)
      return
    }
    // The runtime's pooling knows floats only.
    const floats = operation.inputs[0]!.dtype === 'float32'
    if (floats && layout === 'blocks' && (op === 'ReduceSum' || op === 'ReduceMean') && rest.endsWith('3')) {
      this.result(operation, this.reduceImages(operation, op, !rest.startsWith('0')))
      return
    }
    const places = axes.flatMap((axis) => (layout === 'planes' ? axesInPlanes : axesInBlocks)[axis]!)
    const name = this.named(operation.inputs[0]!, layout)
    const seen = layout === 'planes' ? name : this.reshape(name, this.folded(shape))
    const made = this.emit(op, [seen, this.integers([...places].sort((a, b) => a - b))], { keepdims: 0 })
    const wanted = operation.outputs[0]!.shape
    this.result(operation, layout === 'planes' && !keepDims ? made : this.reshape(made, wanted))
  }

  /** The runtime's pooling of whole images in blocks reads them far faster than its reductions do. */
  private reduceImages(operation: Operation, op: 'ReduceSum' | 'ReduceMean', overBatch: boolean): string {
    const [n, height, width, channels] = operation.shapes[0] as unknown as Quad
    const images = this.named(operation.inputs[0]!, 'blocks')
    const means = this.emit('GlobalAveragePool', [images], {}, 'com.microsoft.nchwc')
    const all = overBatch ? this.emit(op, [means, this.integers([0, 2, 3])], { keepdims: 0 }) : means
    const made = op === 'ReduceMean' ? all : this.emit('Mul', [all, this.scalar(height * width)])
    const { shape } = operation.outputs[0]!
    return sameShape(shape, overBatch ? [channels] : [n, channels, 1, 1]) ? made : this.reshape(made, shape)
  }

  /** Ends the graph: what it computes under which name, and which leaves it needs. */
  finish(roots: readonly Value[]): { model: Model; names: string[]; used: boolean[] } {
    const outputs = new Map<string, Port>()
    const names = roots.map((root) => {
      let name = this.named(root, 'plain')
      if (!name.startsWith('t')) name = this.emit('Identity', [name])
      outputs.set(name, { name, dtype: root.dtype, shape: root.shape })
      return name
    })
    const needed = new Set(outputs.keys())
    const nodes: Node[] = []
    for (const node of this.nodes.toReversed()) {
      if (!node.outputs.some((name) => needed.has(name))) continue
      nodes.push(node)
      for (const name of node.inputs) needed.add(name)
    }
    const used = this.leaves.map((_, i) => needed.has(`i${i}`))
    const inputs = this.leaves.flatMap(({ dtype, shape }, i) => (used[i] ? [{ name: `i${i}`, dtype, shape }] : []))
    const constants = this.constants.filter(({ name }) => needed.has(name))
    return { model: { nodes: nodes.reverse(), inputs, outputs: [...outputs.values()], constants }, names, used }
  }

  /** [n, h, w, c] in blocks as five axes: a channel vector broadcasts against these. */
  folded([n, height, width, channels]: readonly number[]): number[] {
    return [n!, channels! / this.blockSize, height!, width!, this.blockSize]
  }

  /** [n, h, w, c] as the runtime declares it in planes and in blocks. */
  declared([n, height, width, channels]: readonly number[]): number[] {
    return [n!, channels!, height!, width!]
  }

  private named(value: Value, layout: Layout): string {
    const names = this.names.get(value)!
    const found = names[layout]
    if (found !== undefined) return found
    if (names.affine && names.blocks === undefined) names.blocks = this.applyAffine(names.affine, value.shape, false)
    if (names.parts && names.blocks === undefined) names.blocks = names.parts.whole()
    if (layout === 'blocks' && names.blocks !== undefined) return names.blocks
    const from = (['blocks', 'planes', 'plain'] as const).find((other) => names[other] !== undefined)!
    const made = this.rearrange(names[from]!, value.shape as unknown as Quad, from, layout, value.dtype)
    names[layout] = made
    return made
  }

  rearrange(name: string, shape: Quad, from: Layout, to: Layout, dtype: Value['dtype'] = 'float32'): string {
    if (from === to) return name
    if (layoutFree({ shape } as unknown as Value))
      return this.reshape(name, to === 'plain' ? shape : this.declared(shape))
    // One block of channels is in the order of tfjs.
    if (shape[3] === this.blockSize && from !== 'planes' && to !== 'planes')
      return this.reshape(name, to === 'plain' ? shape : this.declared(shape))
    const nchwc = 'com.microsoft.nchwc'
    // The runtime's reordering knows floats only.
    if (dtype !== 'float32' && (from === 'blocks' || to === 'blocks')) {
      const floats = this.emit('Cast', [name], { to: elementTypes.float32 })
      return this.emit('Cast', [this.rearrange(floats, shape, from, to)], { to: elementTypes[dtype] })
    }
    if (to === 'blocks') return this.emit('ReorderInput', [name], { channels_last: from === 'plain' ? 1 : 0 }, nchwc)
    if (from === 'blocks')
      return this.emit('ReorderOutput', [name], { channels: shape[3], channels_last: to === 'plain' ? 1 : 0 }, nchwc)
    return this.transpose(name, to === 'planes' ? [0, 3, 1, 2] : [0, 2, 3, 1])
  }

  /** Whether the value is as large as the result and lies in this layout already; what also lies plain stays so. */
  private liesIn(value: Value, seen: readonly number[], shape: readonly number[], layout: Layout): boolean {
    const names = this.names.get(value)!
    const inBlocks = (names.blocks ?? names.affine ?? names.parts) !== undefined
    const lies = layout === 'blocks' ? inBlocks : names.planes !== undefined && names.plain === undefined
    if (!lies) return false
    return shape.length === 4 && sameShape(seen, shape) && sameShape(value.shape, shape)
  }

  /** The operands in one layout, or undefined where one of them does not fit it. */
  private alike(operation: Operation, shape: Quad, layout: Layout): { names: string[]; folded: boolean } | undefined {
    if (layout === 'blocks' && !fitsBlocks(shape, this.blockSize)) return undefined
    const channels = shape[3]
    const kinds = operation.shapes.map((seen) => {
      if (sameShape(seen, shape)) return 'whole'
      if (sizeOf(seen) === 1) return 'single'
      return seen.at(-1) === channels && sizeOf(seen) === channels ? 'channels' : 'other'
    })
    if (kinds.includes('other')) return undefined
    const folded = layout === 'blocks' && kinds.includes('channels')
    const names = kinds.map((kind, i) => {
      if (kind === 'whole') {
        const name = this.arranged(operation, i, layout)
        return folded ? this.reshape(name, this.folded(shape)) : name
      }
      const plain = this.named(operation.inputs[i]!, 'plain')
      if (kind === 'single') return operation.inputs[i]!.shape.length === 0 ? plain : this.reshape(plain, [])
      return this.reshape(plain, folded ? [channels / this.blockSize, 1, 1, this.blockSize] : [channels, 1, 1])
    })
    return { names, folded }
  }

  /** One pass over a value in blocks: a convolution of each channel with a single number. */
  private applyAffine({ base, scale, shift }: Affine, shape: readonly number[], relu: boolean): string {
    const channels = shape[3]!
    const ones = () => this.constant('float32', [channels], new Float32Array(channels).fill(1))
    const filter = this.reshape(scale ?? ones(), [channels, 1, 1, 1])
    const window = { kernel_shape: [1, 1], strides: [1, 1], dilations: [1, 1], pads: [0, 0, 0, 0], group: channels }
    const attributes = relu ? { ...window, activation: 'Relu' } : window
    return this.emit('Conv', [base, filter, ...(shift === undefined ? [] : [shift])], attributes, 'com.microsoft.nchwc')
  }

  /**
   * Sums and products of a value in blocks and one number a channel are put together and computed in one pass, in the
   * pass that makes the value where that can take a bias, and with the relu that follows. False where it is none.
   */
  private channelwise(operation: Operation): boolean {
    const { kind, inputs, outputs } = operation
    const { shape, dtype } = outputs[0]!
    if (dtype !== 'float32' || !fitsBlocks(shape, this.blockSize) || layoutFree(outputs[0]!)) return false
    if (kind === 'Relu') return this.reluInPass(operation)
    const whole = inputs.findIndex((value, i) => this.liesIn(value, operation.shapes[i]!, shape, 'blocks'))
    if (!channelwiseKinds.has(kind) || whole < 0) return false
    const other = this.channelVector(operation, 1 - whole, shape[3]!)
    if (other === undefined || (whole === 1 && kind === 'RealDiv')) return false
    const known = this.names.get(inputs[whole]!)!
    if (kind === 'Add' && known.remake && this.uses.get(inputs[whole]!) === 1) {
      const { remake } = known
      const again: Remake = ({ bias, relu = false }) =>
        remake({ bias: bias === undefined ? other : this.emit('Add', [other, bias]), relu })
      this.names.set(outputs[0]!, { blocks: again({}), remake: again })
      return true
    }
    const { base, scale, shift } = known.affine ?? {
      base: this.named(inputs[whole]!, 'blocks'),
      scale: undefined,
      shift: undefined,
    }
    this.names.set(outputs[0]!, { affine: this.compose(kind, { base, scale, shift }, other, whole === 1) })
    return true
  }

  private reluInPass(operation: Operation): boolean {
    const [value] = operation.inputs
    const known = this.names.get(value!)!
    if (!sameShape(value!.shape, operation.shapes[0]!) || known.plain !== undefined) return false
    const relu = known.affine
      ? this.applyAffine(known.affine, value!.shape, true)
      : known.remake && this.uses.get(value!) === 1
        ? known.remake({ relu: true })
        : undefined
    if (relu === undefined) return false
    this.result(operation, relu, 0, 'blocks')
    return true
  }

  /** Operand i as [c] where it is one number a channel, or one number for all; undefined where it is neither. */
  private channelVector(operation: Operation, i: number, channels: number): string | undefined {
    const seen = operation.shapes[i]!
    const single = sizeOf(seen) === 1
    if (operation.inputs[i]!.dtype !== 'float32') return undefined
    if (!single && (seen.at(-1) !== channels || sizeOf(seen) !== channels)) return undefined
    const plain = this.named(operation.inputs[i]!, 'plain')
    if (!single) return sameShape(operation.inputs[i]!.shape, [channels]) ? plain : this.reshape(plain, [channels])
    return this.emit('Expand', [this.reshape(plain, [1]), this.integers([channels])])
  }

  private compose(kind: string, affine: Affine, other: string, turned: boolean): Affine {
    const { base, scale, shift } = affine
    const mul = (a: string | undefined, b: string) => (a === undefined ? b : this.emit('Mul', [a, b]))
    if (kind === 'Multiply') return { base, scale: mul(scale, other), shift: shift && mul(shift, other) }
    if (kind === 'RealDiv') {
      const inverse = this.emit('Reciprocal', [other])
      return { base, scale: mul(scale, inverse), shift: shift && mul(shift, inverse) }
    }
    const negative = (name: string) => this.emit('Neg', [name])
    const add = (a: string | undefined, b: string) => (a === undefined ? b : this.emit('Add', [a, b]))
    if (kind === 'Add') return { base, scale, shift: add(shift, other) }
    if (!turned) return { base, scale, shift: add(shift, negative(other)) }
    const one = this.scalar(-1)
    return {
      base,
      scale: scale ? negative(scale) : this.emit('Expand', [this.reshape(one, [1]), this.emit('Shape', [other])]),
      shift: shift ? this.emit('Sub', [other, shift]) : other,
    }
  }
}
