import type { Node } from '../graph/node.ts'
import type { Schedule } from '../graph/plan.ts'
import { sizeOf } from '../recording/shape.ts'
import type { Part, Purpose } from './buffers.ts'
import { type Half, storedInHalf } from './half.ts'
import type { Bound, Scratch, Shader } from './shader.ts'

/** Where a buffer comes from. */
export type Place = { kind: 'leaf' | 'root' | 'slot' | 'part' | 'known'; i: number }

/** Bytes of a tensor's numbers. */
export const bytesOf = (shape: readonly number[]) => Math.max(4, 4 * sizeOf(shape))

/** Where in a buffer a binding may begin: at multiples of this many bytes on every device. */
const bindingStep = 256

/** Tensors one behind the other: at which bytes each is, and how many they are together. */
export function inRow(nodes: readonly Node[]): { parts: Part[]; bytes: number } {
  let end = 0
  const parts = nodes.map(({ shape }) => {
    const bytes = Math.ceil(bytesOf(shape) / bindingStep) * bindingStep
    end += bytes
    return { offset: end - bytes, bytes }
  })
  return { parts, bytes: end }
}

/** Says which buffer is whose, and lets results that are not needed at the same time share one. */
export class Layout {
  readonly slots: { bytes: number; what: Purpose }[] = []
  private readonly places = new Map<Node | Scratch, Place>()
  readonly known: Node[] = []
  private readonly schedule: Schedule
  private readonly half: Half | undefined
  private readonly inHalf: ReadonlySet<Node | Scratch>
  private readonly lastUse = new Map<Node | Scratch, number>()
  readonly roots: readonly Node[]
  /** What lies in the first slot, one behind the other. */
  readonly gathered: readonly Node[]

  constructor(schedule: Schedule, shaders: readonly Shader[], half: Half | undefined, gathered: readonly Node[]) {
    this.schedule = schedule
    this.roots = schedule.roots
    this.gathered = gathered
    this.half = half
    this.inHalf = storedInHalf(schedule)
    for (const [i, node] of schedule.leaves.entries()) if (node) this.places.set(node, { kind: 'leaf', i })
    for (const [i, node] of schedule.roots.entries()) this.places.set(node, { kind: 'root', i })
    for (const [i, { bound }] of shaders.entries()) for (const { of } of bound) this.lastUse.set(this.own(of), i)
    for (const [i, node] of gathered.entries()) this.places.set(node, { kind: 'part', i })
    if (gathered.length > 0)
      this.slots.push({ bytes: inRow(gathered).bytes, what: { name: 'gradients of weights', shape: [] } })
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
    const bytes = this.half === 'native' && this.inHalf.has(of) ? full / 2 : full
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
    return this.inHalf.has(this.own(of))
  }

  placeOf(of: Node | Scratch): Place {
    return this.places.get(this.own(of))!
  }

  placesOf(bound: readonly Bound[]): Place[] {
    return bound.map(({ of }) => this.placeOf(of))
  }
}
