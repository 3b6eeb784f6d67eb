import { Unavailable } from '../../../errors.ts'
import type { Block, Compiled, Computer } from '../../recording/computer.ts'
import type { Plan } from '../../recording/keys.ts'
import { known, type Numbers, type Value } from '../../recording/record.ts'
import { lowerGraph } from '../computer.ts'
import { encodeModel } from '../encode.ts'
import type { Handle } from './api.ts'
import { fitToCuda } from './forms.ts'
import type { DeviceRuntime, DeviceSession } from './runtime.ts'

/** A value on the device, which several recorded values may share. */
class DeviceBlock implements Block {
  readonly handle: Handle
  readonly bytes: number
  holders = 0

  constructor(handle: Handle, bytes: number) {
    this.handle = handle
    this.bytes = bytes
  }
}

/** Which leaves a session is fed under which names, and the name of each root's result. */
interface Wiring {
  /** By leaf; undefined where the graph does not need it. */
  feeds: (string | undefined)[]
  names: string[]
  outputs: string[]
}

export interface DeviceOptions {
  /** Hears of each operator that the device's provider has no kernel for, once. */
  onElsewhere(operator: string): void
}

/**
 * Compiles recorded graphs to ONNX, in the forms that are fit for CUDA, and keeps their results on the device: the next
 * graph takes them there. Numbers that are fed a second time are put there to stay.
 */
export class DeviceComputer implements Computer {
  readonly synchronous = true
  private readonly runtime: DeviceRuntime
  private readonly onElsewhere: DeviceOptions['onElsewhere']
  private readonly told = new Set<string>()
  private readonly blocks = new Set<DeviceBlock>()

  constructor(runtime: DeviceRuntime, { onElsewhere }: DeviceOptions) {
    this.runtime = runtime
    this.onElsewhere = onElsewhere
  }

  refusal(): Unavailable {
    return new Unavailable('numbers on the device can be had within the call', 'this is a fault in Gestalt')
  }

  compile(plan: Plan, roots: readonly Value[]): Compiled {
    const { model, names, used } = lowerGraph(plan, roots, { blockSize: 0, forCuda: true })
    const session = this.runtime.open(encodeModel(fitToCuda(model)))
    for (const { operator, node } of session.elsewhere) this.tell(operator, node)
    const feeds = used.map((is, i) => (is ? `i${i}` : undefined))
    const wiring = { feeds, names, outputs: [...new Set(names)] }
    return {
      kind: 'session',
      run: (leaves, made) => this.run(session, wiring, leaves, made),
      close: () => session.close(),
    }
  }

  private tell(operator: string, node: string): void {
    const kernel = node.split('/')[0]!
    const what = `${operator} of ${kernel}`
    if (this.told.has(what)) return
    this.told.add(what)
    this.onElsewhere(what)
  }

  private run(
    session: DeviceSession,
    { feeds, names, outputs }: Wiring,
    leaves: readonly Value[],
    roots: readonly Value[],
  ): void {
    const wrapped: Handle[] = []
    const fed: [string, Handle][] = []
    try {
      for (let i = 0; i < leaves.length; i++) {
        const name = feeds[i]
        if (name !== undefined) fed.push([name, this.feed(leaves[i]!, wrapped)])
      }
      const results = session.run(fed, outputs)
      const blocks = new Map(outputs.map((name, i) => [name, this.keep(results[i]!)]))
      for (const [i, root] of roots.entries()) hold(root, blocks.get(names[i]!)!)
    } finally {
      for (const handle of wrapped) this.runtime.release(handle)
    }
  }

  /** A leaf as it is fed; what lives for this run only is added to `wrapped`. */
  private feed(leaf: Value, wrapped: Handle[]): Handle {
    if (leaf.block) return (leaf.block as DeviceBlock).handle
    const numbers = known(leaf)
    if (leaf.fed) {
      const block = this.keep(this.runtime.upload(leaf.dtype, numbers, leaf.shape))
      hold(leaf, block)
      return block.handle
    }
    leaf.fed = true
    const handle = this.runtime.wrap(leaf.dtype, numbers, leaf.shape)
    wrapped.push(handle)
    return handle
  }

  private keep(handle: Handle): DeviceBlock {
    const block = new DeviceBlock(handle, this.runtime.bytesOf(handle))
    this.blocks.add(block)
    return block
  }

  fetchNow({ dtype, shape, block }: Value): Numbers {
    return this.runtime.download(dtype, (block as DeviceBlock).handle, shape)
  }

  release(block: Block): void {
    const held = block as DeviceBlock
    held.holders--
    if (held.holders > 0 || !this.blocks.delete(held)) return
    this.runtime.release(held.handle)
  }

  /** Bytes of all values on the device that are kept. */
  memoryBytes(): number {
    let bytes = 0
    for (const block of this.blocks) bytes += block.bytes
    return bytes
  }

  close(): void {
    for (const { handle } of this.blocks) this.runtime.release(handle)
    this.blocks.clear()
    this.runtime.close()
  }
}

function hold(value: Value, block: DeviceBlock): void {
  block.holders++
  value.block = block
}
