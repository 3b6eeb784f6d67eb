import type { Node } from '../graph/node.ts'
import { type Schedule, type Stage, scheduleGraph } from '../graph/plan.ts'
import { arrays } from '../recording/backend.ts'
import type { Compiled } from '../recording/computer.ts'
import type { Plan } from '../recording/keys.ts'
import { known, type Numbers, refuseFailed, type Value } from '../recording/record.ts'
import { sizeOf } from '../recording/shape.ts'
import type { GpuBlock, Purpose } from './buffers.ts'
import { foldShaders } from './folds.ts'
import { activations, type Half, shaderInHalf } from './half.ts'
import { mapShader } from './loops.ts'
import { lowerings } from './lower.ts'
import type { Pipeline } from './pipelines.ts'
import type { Bound, Facts, GpuSpecial, Groups, Scratch, Shader } from './shader.ts'
import type { World } from './world.ts'

/** Where a buffer comes from. */
type Place = { kind: 'leaf' | 'root' | 'slot' | 'known'; i: number }

interface Dispatch {
  label: string
  pipeline: Pipeline
  groups: Groups
  places: Place[]
  /** Bind groups by the buffers that they bind. */
  bound: Map<string, GPUBindGroup>
}

const mostBound = 32
const bytesOf = (shape: readonly number[]) => Math.max(4, 4 * sizeOf(shape))

const tensorOf = ({ shape }: Value): Purpose => ({ name: `a tensor [${shape.join(', ')}]`, shape })

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

/** Words of the numbers, as the device has them. */
export function wordsOf(numbers: Numbers): Float32Array | Int32Array {
  return numbers instanceof Uint8Array ? Int32Array.from(numbers) : numbers
}

/** Says which buffer is whose, and lets results that are not needed at the same time share one. */
class Layout {
  readonly slots: { bytes: number; what: Purpose }[] = []
  private readonly places = new Map<Node | Scratch, Place>()
  readonly known: Node[] = []
  private readonly schedule: Schedule
  private readonly half: Half | undefined
  private readonly isActivation: (node: Node) => boolean
  private readonly lastUse = new Map<Node | Scratch, number>()

  constructor(schedule: Schedule, shaders: readonly Shader[], half: Half | undefined) {
    this.schedule = schedule
    this.half = half
    this.isActivation = activations(schedule.roots)
    for (const [i, node] of schedule.leaves.entries()) if (node) this.places.set(node, { kind: 'leaf', i })
    for (const [i, node] of schedule.roots.entries()) this.places.set(node, { kind: 'root', i })
    for (const [i, { bound }] of shaders.entries()) for (const { of } of bound) this.lastUse.set(this.own(of), i)
    const free: Place[] = []
    for (const [i, shader] of shaders.entries()) {
      const taken = [...new Set(shader.bound.map(({ of }) => this.own(of)))]
      for (const of of taken) if (!this.places.has(of)) this.places.set(of, this.placeFor(of, shader, free))
      for (const of of taken) {
        const place = this.places.get(of)!
        if (place.kind === 'slot' && this.lastUse.get(of) === i) free.push(place)
      }
    }
  }

  /** The node in whose memory a node's numbers are. */
  private own(of: Node | Scratch): Node | Scratch {
    return 'scratch' in of ? of : (this.schedule.finished.get(of) ?? of)
  }

  private placeFor(of: Node | Scratch, { label: name }: Shader, free: Place[]): Place {
    if (!('scratch' in of) && (of.kind === 'constant' || of.kind === 'table')) {
      this.known.push(of)
      return { kind: 'known', i: this.known.length - 1 }
    }
    const full = 'scratch' in of ? of.bytes : bytesOf(of.shape)
    const bytes = this.half === 'native' && !('scratch' in of) && this.isActivation(of) ? full / 2 : full
    const what = { name, shape: 'scratch' in of ? [] : of.shape }
    // The best fit of those that are large enough, else the largest, which grows.
    const sizes = free.map(({ i }) => this.slots[i]!.bytes)
    let best = -1
    for (const [f, size] of sizes.entries()) {
      const [fits, bestFits] = [size >= bytes, best >= 0 && sizes[best]! >= bytes]
      if (best < 0 || (fits && (!bestFits || size < sizes[best]!)) || (!fits && !bestFits && size > sizes[best]!))
        best = f
    }
    const wasteful = best >= 0 && sizes[best]! > 4 * bytes && sizes[best]! > 2 ** 20
    if (best < 0 || wasteful || sizes[best]! < bytes / 4) {
      this.slots.push({ bytes, what })
      return { kind: 'slot', i: this.slots.length - 1 }
    }
    const [place] = free.splice(best, 1)
    const slot = this.slots[place!.i]!
    if (slot.bytes < bytes) Object.assign(slot, { bytes, what })
    return place!
  }

  /** Whether its numbers lie in memory of this graph alone, in half precision. */
  isHalf(of: Node | Scratch): boolean {
    const own = this.own(of)
    return this.places.get(own)?.kind === 'slot' && !('scratch' in own) && this.isActivation(own)
  }

  placesOf(bound: readonly Bound[]): Place[] {
    return bound.map(({ of }) => this.places.get(this.own(of))!)
  }
}

type Upload = { words: Float32Array | Int32Array; what: Purpose }

async function upload(all: readonly Upload[], { buffers }: World, batch?: number): Promise<GpuBlock[]> {
  const wanted = all.map(({ words, what }) => ({ bytes: words.byteLength, what }))
  const blocks = await buffers.take(wanted, batch)
  for (const [i, { words }] of all.entries()) buffers.write(blocks[i]!, words)
  return blocks
}

/** Copies the numbers of leaves to the device that are not there yet. Throws what kept one from being computed. */
export async function bringToDevice(leaves: readonly Value[], world: World, batch?: number): Promise<void> {
  // Whatever it has, nothing is computed from what failed.
  for (const leaf of leaves) refuseFailed(leaf)
  const absent = [...new Set(leaves)].filter(({ block }) => !block)
  const wanted = absent.map((leaf) => ({ leaf, words: wordsOf(known(leaf)), what: tensorOf(leaf) }))
  const { buffers } = world
  for (const { leaf, words } of wanted) if (words.length === 1) leaf.block = buffers.single(words)
  const brought = wanted.filter(({ leaf }) => !leaf.block)
  const blocks = await upload(brought, world, batch)
  for (const [i, { leaf, words }] of brought.entries()) {
    leaf.block = blocks[i]
    if (words.length === 1) buffers.keepSingle(words, blocks[i]!)
  }
}

/** How many images are computed with at once, as far as can be seen: the most rows of four sides that came from JavaScript. */
function batchOf(leaves: readonly Value[]): number | undefined {
  const rows = leaves.filter(({ data, shape }) => data && shape.length === 4).map(({ shape }) => shape[0]!)
  return rows.length > 0 ? Math.max(...rows) : undefined
}

/** A graph as dispatches: compiled shaders, and which buffers each is handed. */
export class Program implements Compiled {
  readonly kind = 'program'
  private readonly world: World
  private readonly shaders: readonly Shader[]
  private readonly dispatches: Dispatch[] = []
  private readonly slots: Layout['slots']
  private readonly knownBlocks: GpuBlock[] = []
  /** How often buffers had been destroyed when bind groups were last looked through. */
  private cleared = 0

  private constructor(world: World, shaders: readonly Shader[], layout: Layout) {
    this.world = world
    this.shaders = shaders
    this.slots = layout.slots
  }

  /** Throws NotWritten where there is no shader for something, Unavailable where the device refuses one. */
  static async compile(plan: Plan, roots: readonly Value[], world: World): Promise<Program> {
    const { facts, pipelines, half } = world
    const mostReads = facts.buffers - 4
    const schedule = scheduleGraph(plan, roots, {
      ...{ lowerings, threads: 1, cutsFolds: false, countsSingles: true, mostReads },
      ...{ mostArrays: facts.buffers, mostOutputs: 4 },
    })
    const written = schedule.stages.flatMap((stage) => shadersOf(stage, facts))
    const layout = new Layout(schedule, written, half)
    const shaders = half ? written.map((shader) => shaderInHalf(shader, (of) => layout.isHalf(of), half)) : written
    const program = new Program(world, shaders, layout)
    const made = await Promise.allSettled(shaders.map((shader) => pipelines.take(shader)))
    const refused = made.find((one) => one.status === 'rejected')
    if (refused) {
      program.close()
      throw refused.reason
    }
    for (const [i, { label, groups, bound }] of shaders.entries()) {
      const { value: pipeline } = made[i] as PromiseFulfilledResult<Pipeline>
      program.dispatches.push({ label, pipeline, groups, places: layout.placesOf(bound), bound: new Map() })
    }
    const what = { name: 'known numbers', shape: [] }
    const known = layout.known.map((node) => ({ words: wordsOfKnown(node), what }))
    try {
      program.knownBlocks.push(...(await upload(known, world)))
    } catch (error) {
      program.close()
      throw error
    }
    return program
  }

  /** Tells the device what to compute; it does so from then on. What fails leaves no root with memory. */
  async run(leaves: readonly Value[], roots: readonly Value[]): Promise<void> {
    const { gpu, buffers, queued } = this.world
    gpu.check()
    const batch = batchOf(leaves)
    await bringToDevice(leaves, this.world, batch)
    const wanted = roots.map((root) => ({ bytes: bytesOf(root.shape), what: tensorOf(root) }))
    const taken = await buffers.take([...wanted, ...this.slots], batch)
    const [root, slot] = [taken.slice(0, roots.length), taken.slice(roots.length)]
    try {
      this.submit({ leaf: leaves.map(({ block }) => block as GpuBlock), root, slot, known: this.knownBlocks })
    } catch (error) {
      for (const block of taken) buffers.give(block)
      throw error
    }
    for (const [i, value] of roots.entries()) value.block = root[i]
    for (const block of slot) buffers.give(block)
    await queued.submitted()
  }

  private submit(blocks: Record<Place['kind'], readonly GpuBlock[]>): void {
    const { gpu, profile, buffers, traffic } = this.world
    if (this.cleared !== buffers.cleared) for (const { bound } of this.dispatches) bound.clear()
    this.cleared = buffers.cleared
    const encoder = gpu.device.createCommandEncoder()
    const stamps = profile?.begin(this.dispatches.map(({ label }) => label))
    // Whoever wants times gets a pass for each dispatch; else they are one.
    const common = stamps ? undefined : encoder.beginComputePass()
    for (const [d, dispatch] of this.dispatches.entries()) {
      const pass = common ?? encoder.beginComputePass(stamps?.pass(d))
      const bound = dispatch.places.map(({ kind, i }) => blocks[kind][i]!)
      pass.setPipeline(dispatch.pipeline.pipeline)
      pass.setBindGroup(0, this.bindGroup(dispatch, bound))
      pass.dispatchWorkgroups(...dispatch.groups)
      if (!common) pass.end()
    }
    common?.end()
    stamps?.encoded(encoder)
    gpu.device.queue.submit([encoder.finish()])
    traffic.submissions++
    stamps?.submitted()
  }

  private bindGroup({ bound, pipeline, label }: Dispatch, blocks: readonly GpuBlock[]): GPUBindGroup {
    let key = ''
    for (const { number } of blocks) key += `${number},`
    const found = bound.get(key)
    if (found) return found
    if (bound.size >= mostBound) bound.clear()
    const made = this.world.gpu.device.createBindGroup({
      label,
      layout: pipeline.layout,
      entries: blocks.map(({ memory }, binding) => ({ binding, resource: { buffer: memory } })),
    })
    bound.set(key, made)
    return made
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
