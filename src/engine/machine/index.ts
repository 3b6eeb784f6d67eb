import { readFileSync } from 'node:fs'
import { Unavailable } from '../../errors.ts'
import { NotWritten } from '../graph/node.ts'
import { OnnxComputer } from '../onnx/computer.ts'
import type { OnnxEngine } from '../onnx/index.ts'
import { traces } from '../onnx/kernels/index.ts'
import { openRuntime } from '../onnx/runtime.ts'
import type { Compiled, Computer } from '../recording/computer.ts'
import { startRecording } from '../recording/index.ts'
import type { Plan } from '../recording/keys.ts'
import type { Value } from '../recording/record.ts'
import { putRows } from '../recording/updates.ts'
import { type Block, Pool } from './pool.ts'
import { Program } from './program.ts'
import { Threads } from './threads.ts'

/** The instructions that the code is made of. */
export const instructions = 'avx512f'

/** What the processor can do, as Linux says it. */
function processorFlags(): string {
  try {
    return /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? ''
  } catch {
    return ''
  }
}

/** Why there can be no machine code here; undefined where there can. */
export function whyNotHere(platform: string = process.platform, arch: string = process.arch, flags = processorFlags()) {
  if (platform !== 'linux' || arch !== 'x64')
    return `its machine code is for Linux on x86-64, and this is ${platform} ${arch}`
  if (!flags.split(' ').includes(instructions)) return 'this processor does not have AVX-512'
  return undefined
}

/** Writes graphs as machine code for this processor, and leaves to another computer what it has no code for. */
export class MachineComputer implements Computer {
  readonly putRows = putRows
  private readonly threads: Threads
  private readonly pool = new Pool()
  private readonly other: Computer
  /** Why graphs had no program, and how often. */
  readonly unwritten: Record<string, number> = {}

  /** Where they are profiled, all of them. */
  readonly made: Program[] = []
  private readonly profiled: boolean

  constructor(threads: number, other: Computer, profiled = false) {
    this.profiled = profiled
    this.other = other
    this.threads = new Threads(threads)
  }

  get synchronous(): boolean {
    return this.other.synchronous
  }

  refusal(): Unavailable {
    return this.other.refusal()
  }

  compile(plan: Plan, roots: readonly Value[]): Compiled | Promise<Compiled> {
    try {
      const program = new Program(plan, roots, this.threads, this.pool, this.profiled)
      if (this.profiled) this.made.push(program)
      return program
    } catch (error) {
      if (!(error instanceof NotWritten)) throw error
      this.unwritten[error.what] = (this.unwritten[error.what] ?? 0) + 1
      return this.other.compile(plan, roots)
    }
  }

  release(block: Block): void {
    this.pool.give(block)
  }

  /** Bytes for the numbers of tensors, in use or kept for the next. */
  memoryBytes(): number {
    return this.pool.bytes
  }

  close(): void {
    this.threads.close()
  }
}

export interface MachineOptions {
  threads: number
  onFallback?(kernel: string): void
  /** Whether programs note when each of their stages begins. */
  profiled?: boolean
}

export interface MachineEngine extends OnnxEngine {
  /** Why graphs had no program, and how often. */
  readonly unwritten: Readonly<Record<string, number>>
  /** Bytes for the numbers of tensors, in use or kept for the next. */
  memoryBytes(): number
  /** Where they are profiled, all of them. */
  readonly programs: readonly Program[]
}

/**
 * Makes tfjs compute with machine code that is written for each graph, and on ONNX Runtime what that is not written for.
 * Throws Unavailable with reason and cure where the processor or the system does not allow it.
 */
export async function startMachine({ threads, onFallback, profiled }: MachineOptions): Promise<MachineEngine> {
  const reason = whyNotHere()
  if (reason) throw new Unavailable(reason, 'GESTALT_ENGINE=onnx runs here')
  const runtime = await openRuntime(threads)
  const computer = new MachineComputer(threads, new OnnxComputer(runtime), profiled)
  const engine = await startRecording({ name: 'machine', traces, computer, onFallback })
  return {
    ...engine,
    threads,
    version: `${instructions}, onnxruntime ${runtime.version}`,
    unwritten: computer.unwritten,
    memoryBytes: () => computer.memoryBytes(),
    programs: computer.made,
  }
}
