import { createHash } from 'node:crypto'
import { type Fault, InvalidDefinition } from '../errors.ts'
import { mostShards, type SetIndex, type Shard } from './set-index.ts'
import type { SetManifest, ShapeStatistics } from './set-manifest.ts'

/** What one image adds to a set. */
export interface IndexedImage {
  /** Tells it from all others of the set. */
  key: string
  shard: number
  offset: number
  length: number
  split: 'train' | 'test'
  /** Its class by name or number. */
  label?: string | undefined
  /** The video it is a frame of. */
  sequence?: string | undefined
  shape: { height: number; width: number; channels: number }
}

/** A column that grows. */
class Column<A extends Float64Array | Int32Array | Uint32Array | Uint16Array | Uint8Array> {
  array: A
  private readonly make: (length: number) => A
  constructor(make: (length: number) => A) {
    this.make = make
    this.array = make(1024)
  }
  set(place: number, value: number): void {
    if (place >= this.array.length) {
      const larger = this.make(this.array.length * 2)
      larger.set(this.array)
      this.array = larger
    }
    this.array[place] = value
  }
}

/** Which keys came already, by 64 bits of a digest each: 16 bytes a key where the keys themselves take a hundred. */
class Seen {
  private table = new BigUint64Array(2048)
  private count = 0

  /** False where it was there before. */
  add(key: string): boolean {
    if (this.count * 2 >= this.table.length) {
      const old = this.table
      this.table = new BigUint64Array(old.length * 2)
      for (const value of old) if (value !== 0n) this.table[this.place(value)] = value
    }
    const value = createHash('sha1').update(key).digest().readBigUInt64LE() | 1n
    const place = this.place(value)
    if (this.table[place] === value) return false
    this.table[place] = value
    this.count++
    return true
  }

  private place(value: bigint): number {
    const mask = this.table.length - 1
    let place = Number(value >> 20n) & mask
    while (this.table[place] !== 0n && this.table[place] !== value) place = (place + 1) & mask
    return place
  }
}

/** Numbers for names, in the order in which they come. */
class Names {
  readonly all: string[] = []
  private readonly ids = new Map<string, number>()
  id(name: string): number {
    const known = this.ids.get(name)
    if (known !== undefined) return known
    this.ids.set(name, this.all.length)
    return this.all.push(name) - 1
  }
}

export const mostImages = 50_000_000
const mostClasses = 100_000
const wholeNumber = /^(0|[1-9]\d{0,8})$/

/**
 * Classes in their order: numbers by size, other names by their letters. Where `numbered`, a number is the label
 * itself, so that labels that somebody gave stay what they are, also where some of them do not occur.
 */
function orderClasses(names: readonly string[], numbered: boolean): { classes: string[]; labels: Int32Array } {
  const numbers = names.every((name) => wholeNumber.test(name))
  if (numbers && numbered) {
    const most = names.reduce((largest, name) => Math.max(largest, Number(name)), -1)
    if (most >= mostClasses)
      throw new InvalidDefinition(
        [{ pointer: '', detail: `has the label ${most}; the largest may be ${mostClasses - 1}` }],
        'the set',
      )
    return { classes: Array.from({ length: most + 1 }, (_, i) => `${i}`), labels: Int32Array.from(names, Number) }
  }
  const compare = numbers ? (a: string, b: string) => Number(a) - Number(b) : (a: string, b: string) => (a < b ? -1 : 1)
  const classes = [...names].sort(compare)
  const places = new Map(classes.map((name, i) => [name, i]))
  return { classes, labels: Int32Array.from(names, (name) => places.get(name)!) }
}

/** A set as it stands when all images are in. */
export interface BuiltSet {
  index: SetIndex
  known: Pick<SetManifest, 'images' | 'unlabelled' | 'classes' | 'sequences' | 'shapes'>
}

/** Gathers where the images of a set lie, in a few numbers each. */
export class SetBuilder {
  private readonly offset = new Column((n) => new Float64Array(n))
  private readonly length = new Column((n) => new Uint32Array(n))
  private readonly label = new Column((n) => new Int32Array(n))
  private readonly sequence = new Column((n) => new Int32Array(n))
  private readonly frame = new Column((n) => new Int32Array(n))
  private readonly shard = new Column((n) => new Uint16Array(n))
  private readonly test = new Column((n) => new Uint8Array(n))
  private readonly seen = new Seen()
  private readonly classes = new Names()
  private readonly sequences = new Names()
  /** Frames so far, by sequence. */
  private readonly frames = new Column((n) => new Int32Array(n))
  private readonly shapes: ShapeStatistics = {
    height: { least: Number.POSITIVE_INFINITY, most: 0 },
    width: { least: Number.POSITIVE_INFINITY, most: 0 },
    grey: 0,
  }
  private inSequences = 0
  count = 0

  /** Throws InvalidDefinition where an image of that key is there already, or there are too many of something. */
  add(image: IndexedImage): void {
    const refuse = (detail: string) => new InvalidDefinition([{ pointer: '', detail }], 'the set')
    if (!this.seen.add(image.key)) throw refuse(`holds two images called '${image.key}'`)
    if (this.count >= mostImages) throw refuse(`has more than ${mostImages} images`)
    if (image.shard >= mostShards) throw refuse(`has more than ${mostShards} shards`)
    if (image.label !== undefined && this.classes.all.length >= mostClasses)
      throw refuse(`has more than ${mostClasses} classes`)
    const place = this.count++
    this.offset.set(place, image.offset)
    this.length.set(place, image.length)
    this.label.set(place, image.label === undefined ? -1 : this.classes.id(image.label))
    this.shard.set(place, image.shard)
    this.test.set(place, image.split === 'test' ? 1 : 0)
    this.number(place, image.sequence)
    const { height, width, channels } = image.shape
    this.shapes.height = widen(this.shapes.height, height)
    this.shapes.width = widen(this.shapes.width, width)
    if (channels < 3) this.shapes.grey++
  }

  private number(place: number, sequence: string | undefined): void {
    if (sequence === undefined) return
    this.inSequences++
    const id = this.sequences.id(sequence)
    const frame = this.frames.array[id] ?? 0
    this.frames.set(id, frame + 1)
    this.sequence.set(place, id)
    this.frame.set(place, frame)
  }

  /** What must hold of a whole set. */
  private faults(labels: 'expected' | 'optional'): Fault[] {
    if (this.count === 0) return [{ pointer: '', detail: 'holds no images' }]
    const faults: Fault[] = []
    if (this.inSequences > 0 && this.inSequences < this.count)
      faults.push({
        pointer: '',
        detail: `${this.count - this.inSequences} of its images belong to no sequence, the others do`,
      })
    const [only] = this.classes.all
    if (labels === 'expected' && this.classes.all.length < 2)
      faults.push({
        pointer: '',
        detail:
          only === undefined
            ? 'no image lies in the folder of a class'
            : `all images are of one class, '${only}': pack what is inside of that folder, or take the layout flat`,
      })
    return faults
  }

  /** The index, images of training first, each split in the order in which they came. Throws InvalidDefinition. */
  finish(shards: readonly Shard[], options: { labels: 'expected' | 'optional'; numbered: boolean }): BuiltSet {
    const faults = this.faults(options.labels)
    if (faults.length > 0) throw new InvalidDefinition(faults, 'the set')
    const { classes, labels } = orderClasses(this.classes.all, options.numbered)
    const order = this.order()
    const train = order.findIndex((row) => this.test.array[row] === 1)
    const split = { train: train < 0 ? this.count : train, test: train < 0 ? 0 : this.count - train }
    const pick = <A extends { [n: number]: number }>(from: A, to: A) => {
      for (let i = 0; i < order.length; i++) to[i] = from[order[i]!]!
      return to
    }
    const n = this.count
    const label = pick(this.label.array, new Int32Array(n)).map((id) => (id < 0 ? -1 : labels[id]!))
    const frames = this.inSequences > 0 && {
      sequence: pick(this.sequence.array, new Int32Array(n)),
      frame: pick(this.frame.array, new Int32Array(n)),
    }
    const index: SetIndex = {
      ...{ shards, ...split, label, ...(frames || {}) },
      shard: pick(this.shard.array, new Uint16Array(n)),
      offset: pick(this.offset.array, new Float64Array(n)),
      length: pick(this.length.array, new Uint32Array(n)),
    }
    const counts = classes.map((name) => ({ name, train: 0, test: 0 }))
    let unlabelled = 0
    label.forEach((id, i) => {
      if (id < 0) unlabelled++
      else counts[id]![i < split.train ? 'train' : 'test']++
    })
    const known = {
      images: split,
      unlabelled,
      classes: counts,
      sequences: this.sequences.all.length,
      shapes: this.shapes,
    }
    return { index, known }
  }

  private order(): Int32Array {
    const order = new Int32Array(this.count)
    let at = 0
    for (const wanted of [0, 1])
      for (let row = 0; row < this.count; row++) if (this.test.array[row] === wanted) order[at++] = row
    return order
  }
}

function widen({ least, most }: { least: number; most: number }, value: number) {
  return { least: Math.min(least, value), most: Math.max(most, value) }
}
