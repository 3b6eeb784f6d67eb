import { MachineComputer } from '../../src/engine/machine/index.ts'
import { OnnxComputer } from '../../src/engine/onnx/computer.ts'
import { traces } from '../../src/engine/onnx/kernels/index.ts'
import { openRuntime } from '../../src/engine/onnx/runtime.ts'
import type { Compiled } from '../../src/engine/recording/computer.ts'
import { type RecordingEngine, startRecording } from '../../src/engine/recording/index.ts'
import type { Plan } from '../../src/engine/recording/keys.ts'
import type { Value } from '../../src/engine/recording/record.ts'
import { keptInHalf } from './places.ts'
import { roundWhereRead } from './rewrite.ts'

/** Of one shader, as most cards have them. */
const buffers = 16

/** What was rounded in all graphs so far. */
export interface Rounded {
  values: number
  /** What a GPU rounds besides. */
  others: number
}

/** Computes on the processor with numbers that are rounded to half precision wherever a GPU would store them so. */
class RoundingComputer extends MachineComputer {
  readonly rounded: Rounded = { values: 0, others: 0 }

  override compile(plan: Plan, roots: readonly Value[]): Compiled | Promise<Compiled> {
    const { values, others } = keptInHalf(plan, roots, buffers)
    this.rounded.values += values.size
    this.rounded.others += others.length
    const { plan: rewritten, leaves: more } = roundWhereRead(plan, values)
    const fed = (inner: Compiled): Compiled => ({
      kind: inner.kind,
      run: (leaves, roots) => inner.run([...leaves, ...more], roots),
      close: () => inner.close(),
    })
    const made = super.compile(rewritten, roots)
    return made instanceof Promise ? made.then(fed) : fed(made)
  }
}

export interface RoundingEngine extends RecordingEngine {
  readonly rounded: Readonly<Rounded>
  /** Why ONNX Runtime computed graphs in place of machine code, and how often. */
  readonly unwritten: Readonly<Record<string, number>>
}

/** The engine of the processor, with activations and their gradients as a GPU has them that stores them in 16 bits. */
export async function startRounding(threads: number): Promise<RoundingEngine> {
  const computer = new RoundingComputer(threads, new OnnxComputer(await openRuntime(threads)))
  const engine = await startRecording({ name: 'machine', traces, computer, onFallback: () => {} })
  return { ...engine, rounded: computer.rounded, unwritten: computer.unwritten }
}
