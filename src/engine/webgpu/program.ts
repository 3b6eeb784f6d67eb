import type { Node } from '../graph/node.ts'
import { type Stage, scheduleGraph, type Target } from '../graph/plan.ts'
import { arrays } from '../recording/backend.ts'
import type { Compiled } from '../recording/computer.ts'
import type { Plan } from '../recording/keys.ts'
import type { Numbers, Value } from '../recording/record.ts'
import { sizeOf } from '../recording/shape.ts'
import { batchOf, imagesAmong } from './batch.ts'
import { entriesOf, type GpuBlock, type Part } from './buffers.ts'
import { areInRow, areOne, type Family, familiesOf, loopsOfAll } from './families.ts'
import { foldShaders } from './folds.ts'
import { shaderInHalf } from './half.ts'
import { bytesOf, inRow, Layout, type Place } from './layout.ts'
import { mapShader } from './loops.ts'
import { lowerings } from './lower.ts'
import type { Pipeline } from './pipelines.ts'
import type { Facts, GpuSpecial, Groups, Shader } from './shader.ts'
import type { World } from './world.ts'
import { bringToDevice, tensorOf, upload } from './writing.ts'

interface Dispatch {
  label: string
  pipeline: Pipeline
  groups: Groups
  places: Place[]
  /** Bind groups by the buffers that they bind. */
  bound: Map<string, GPUBindGroup>
  /** How many bytes are bound from each block on that is a part of a buffer; default: its own. */
  span?: number
}

const mostBound = 32

function labelOf(stage: Stage): string {
  const shaped = (node: Node) => `[${node.shape.join(', ')}]`
  if (stage.kind === 'special') {
    const { special } = stage.node
    return `${special.name} ${shaped(stage.node)} of ${special.inputs.map(({ node }) => shaped(node)).join(' ')}`
  }
  const names = stage.nodes.map((node) => `${node.kind === 'map' ? node.formula : node.kind} ${shaped(node)}`)
  return `${names.join(', ')} over [${stage.loops.sides.join(', ')}]`
}

function shadersOf(stage: Stage, facts: Facts): Shader[] {
  const label = labelOf(stage)
  if (stage.kind === 'special') return (stage.node.special as GpuSpecial).shaders(stage.node, facts)
  if (stage.loops.outputs[0]!.kind === 'fold') return foldShaders(stage.loops, label)
  return [mapShader(stage.loops, label)]
}

/** Updates of one kind: in one dispatch where their arrays lie in order, else each by itself. */
interface Together {
  all: Dispatch | undefined
  each: readonly Dispatch[]
  /** Arrays of each part that is read or written, and single numbers. */
  rows: readonly (readonly Place[])[]
  numbers: readonly (readonly Place[])[]
  parts: readonly Part[]
}

const isInRow = ({ rows, numbers, parts }: Together, blockOf: (place: Place) => GpuBlock): boolean =>
  rows.every((row) => areInRow(row.map(blockOf), parts)) && numbers.every((same) => areOne(same.map(blockOf)))

function dispatchesOf(some: Together, blockOf: (place: Place) => GpuBlock): readonly Dispatch[] {
  return some.all && isInRow(some, blockOf) ? [some.all] : some.each
}

/** Roots that share a buffer, and where in it they are. */
interface Sharing {
  roots: readonly number[]
  parts: readonly Part[]
  bytes: number
}

/** What graphs are made of for a device whose shaders take so many buffers. */
export function targetFor(buffers: number): Target {
  return {
    ...{ lowerings, threads: 1, cutsFolds: false, joinsApart: false, countsSingles: true, mostReads: buffers - 4 },
    ...{ mostArrays: buffers, mostOutputs: 4 },
  }
}

/** A graph as dispatches: compiled shaders, and which buffers each is handed. */
export class Program implements Compiled {
  readonly kind = 'program'
  private readonly world: World
  private readonly shaders: readonly Shader[]
  private readonly dispatches: Dispatch[] = []
  /** What comes last, because nothing waits for it. */
  private readonly together: Together[] = []
  private readonly slots: Layout['slots']
  /** Parts of the first slot. */
  private readonly gathered: readonly Part[]
  private readonly sharing: readonly Sharing[]
  /** Roots that have a buffer of their own. */
  private readonly apart: readonly number[]
  private readonly knownBlocks: GpuBlock[] = []
  /** Which leaves may be images. */
  private readonly images: readonly number[]
  /** How often buffers had been destroyed when bind groups were last looked through. */
  private cleared = 0

  private constructor(
    world: World,
    plan: Plan,
    shaders: readonly Shader[],
    layout: Layout,
    families: readonly Family[],
  ) {
    this.world = world
    this.images = imagesAmong(plan)
    this.shaders = shaders
    this.slots = layout.slots
    this.gathered = inRow(layout.gathered).parts
    const written = families.filter(({ updates }) => updates.length > 1).map(({ writes }) => writes.flat())
    this.sharing = written.map((nodes) => ({ roots: nodes.map((node) => layout.placeOf(node).i), ...inRow(nodes) }))
    const shared = new Set(this.sharing.flatMap(({ roots }) => roots))
    this.apart = layout.roots.flatMap((_, i) => (shared.has(i) ? [] : [i]))
  }

  /** Throws NotWritten where there is no shader for something, Unavailable where the device refuses one. */
  static async compile(plan: Plan, roots: readonly Value[], world: World): Promise<Program> {
    const { facts, half } = world
    const schedule = scheduleGraph(plan, roots, targetFor(facts.buffers))
    const written = new Map(schedule.stages.map((stage) => [stage, shadersOf(stage, facts)]))
    const families = familiesOf(schedule, half, [...written.values()].flat())
    const last = new Set<Stage>(families.flatMap(({ updates }) => updates))
    const inTurn = [...schedule.stages.filter((stage) => !last.has(stage)), ...last].flatMap(
      (stage) => written.get(stage)!,
    )
    const gathered = families.flatMap((family) => family.gathered)
    const layout = new Layout(schedule, inTurn, half, gathered)
    const single = half ? inTurn.map((shader) => shaderInHalf(shader, (of) => layout.isHalf(of), half)) : inTurn
    const all = families
      .filter(({ updates }) => updates.length > 1)
      .map((family) => mapShader(loopsOfAll(family), `${family.updates.length} updates together`))
    const program = new Program(world, plan, [...single, ...all], layout, families)
    try {
      await program.build(layout, families)
    } catch (error) {
      program.close()
      throw error
    }
    return program
  }

  private async build(layout: Layout, families: readonly Family[]): Promise<void> {
    const { pipelines } = this.world
    const made = await Promise.allSettled(this.shaders.map((shader) => pipelines.take(shader)))
    const refused = made.find((one) => one.status === 'rejected')
    if (refused) throw refused.reason
    const dispatches = this.shaders.map(({ label, groups, bound }, i): Dispatch => {
      const { value: pipeline } = made[i] as PromiseFulfilledResult<Pipeline>
      return { label, pipeline, groups, places: layout.placesOf(bound), bound: new Map() }
    })
    this.gather(dispatches, layout, families)
    const what = { name: 'known numbers', shape: [] }
    const known = layout.known.map((node) => ({ words: wordsOfKnown(node), what }))
    this.knownBlocks.push(...(await upload(known, this.world)))
  }

  /** Takes the dispatches in turn: those of stages, of updates by themselves, of updates together. */
  private gather(dispatches: Dispatch[], layout: Layout, families: readonly Family[]): void {
    const all = dispatches.splice(dispatches.length - this.sharing.length)
    const updates = families.reduce((sum, family) => sum + family.updates.length, 0)
    const each = dispatches.splice(dispatches.length - updates)
    this.dispatches.push(...dispatches)
    const placesOf = (rows: readonly (readonly Node[])[]) => rows.map((row) => row.map((node) => layout.placeOf(node)))
    for (const { updates, reads, writes, numbers } of families) {
      const { parts, bytes: span } = inRow(writes[0] ?? [])
      const places = { rows: placesOf([...reads, ...writes]), numbers: placesOf(numbers) }
      const together = updates.length > 1 ? { ...all.shift()!, span } : undefined
      this.together.push({ all: together, each: each.splice(0, updates.length), ...places, parts })
    }
  }

  /** Tells the device what to compute; it does so from then on. What fails leaves no root with memory. */
  async run(leaves: readonly Value[], roots: readonly Value[]): Promise<void> {
    const { gpu, buffers, queued } = this.world
    gpu.check()
    const batch = batchOf(leaves, this.images)
    await bringToDevice(leaves, this.world, batch)
    const { root, slot, part, taken } = await this.take(roots, batch)
    try {
      const leaf = leaves.map(({ block }) => block as GpuBlock)
      this.submit({ leaf, root, slot, part, known: this.knownBlocks })
    } catch (error) {
      for (const block of taken) buffers.give(block)
      throw error
    }
    for (const [i, value] of roots.entries()) value.block = root[i]
    for (const block of slot) buffers.give(block)
    await queued.submitted()
  }

  /** Memory for the roots and for what is computed on the way. */
  private async take(roots: readonly Value[], batch: number | undefined) {
    const { buffers } = this.world
    const apart = this.apart.map((i) => ({ bytes: bytesOf(roots[i]!.shape), what: tensorOf(roots[i]!) }))
    const what = { name: 'weights or slots of the optimizer', shape: [] }
    const shared = this.sharing.map(({ bytes }) => ({ bytes, what }))
    const taken = await buffers.take([...this.slots, ...apart, ...shared], batch)
    const slot = taken.slice(0, this.slots.length)
    const own = taken.slice(slot.length, slot.length + apart.length)
    const root: GpuBlock[] = []
    for (const [a, i] of this.apart.entries()) root[i] = own[a]!
    for (const [s, { roots, parts }] of this.sharing.entries()) {
      const blocks = buffers.divide(taken[slot.length + own.length + s]!, parts)
      for (const [b, block] of blocks.entries()) root[roots[b]!] = block
    }
    const part = this.gathered.length > 0 ? buffers.divide(slot[0]!, this.gathered) : []
    return { root, slot, part, taken }
  }

  private submit(blocks: Record<Place['kind'], readonly GpuBlock[]>): void {
    const { gpu, profile, buffers, traffic } = this.world
    const blockOf = ({ kind, i }: Place) => blocks[kind][i]!
    if (this.cleared !== buffers.cleared) this.forget()
    this.cleared = buffers.cleared
    const dispatches = [...this.dispatches, ...this.together.flatMap((some) => dispatchesOf(some, blockOf))]
    const encoder = gpu.device.createCommandEncoder()
    const stamps = profile?.begin(dispatches.map(({ label }) => label))
    // Whoever wants times gets a pass for each dispatch; else they are one.
    const common = stamps ? undefined : encoder.beginComputePass()
    for (const [d, dispatch] of dispatches.entries()) {
      const pass = common ?? encoder.beginComputePass(stamps?.pass(d))
      pass.setPipeline(dispatch.pipeline.pipeline)
      pass.setBindGroup(0, this.bindGroup(dispatch, dispatch.places.map(blockOf)))
      pass.dispatchWorkgroups(...dispatch.groups)
      if (!common) pass.end()
    }
    common?.end()
    stamps?.encoded(encoder)
    gpu.device.queue.submit([encoder.finish()])
    traffic.submissions++
    traffic.dispatches += dispatches.length
    stamps?.submitted()
  }

  private bindGroup({ bound, pipeline, label, span }: Dispatch, blocks: readonly GpuBlock[]): GPUBindGroup {
    let key = ''
    for (const { number, offset } of blocks) key += `${number}+${offset},`
    const found = bound.get(key)
    if (found) return found
    if (bound.size >= mostBound) bound.clear()
    const entries = entriesOf(blocks, span)
    const made = this.world.gpu.device.createBindGroup({ label, layout: pipeline.layout, entries })
    bound.set(key, made)
    return made
  }

  /** Forgets what buffers were bound: some of them are no more. */
  private forget(): void {
    const last = this.together.flatMap(({ all, each }) => (all ? [all, ...each] : each))
    for (const { bound } of [...this.dispatches, ...last]) bound.clear()
  }

  close(): void {
    for (const shader of this.shaders) this.world.pipelines.give(shader)
    for (const block of this.knownBlocks.splice(0)) this.world.buffers.give(block)
  }
}

function wordsOfKnown(node: Node): Float32Array | Int32Array {
  const whole = node.dtype !== 'float32'
  if (node.kind === 'constant') return whole ? Int32Array.of(node.value) : Float32Array.of(node.value)
  if (node.kind === 'table') return Int32Array.from(node.words)
  throw new Error(`a ${node.kind} is not known beforehand`)
}

/** The numbers of a value as JavaScript has them, from the words that were copied. */
export function numbersFrom(words: ArrayBuffer, { dtype, shape }: Value): Numbers {
  if (dtype === 'bool') return Uint8Array.from(new Int32Array(words, 0, sizeOf(shape)))
  return new arrays[dtype](words, 0, sizeOf(shape))
}
