import { readFileSync } from 'node:fs'
import { Unavailable } from '../../errors.ts'
import { type OnnxEngine, startOnnx } from '../onnx/index.ts'
import type { Plan } from '../onnx/keys.ts'
import type { Block, Programs } from '../onnx/programs.ts'
import type { Value } from '../onnx/record.ts'
import { NotWritten } from './node.ts'
import { Pool } from './pool.ts'
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

/** Graphs as machine code for this processor. */
export class MachinePrograms implements Programs {
  private readonly threads: Threads
  private readonly pool = new Pool()
  /** Why graphs had no program, and how often. */
  readonly unwritten: Record<string, number> = {}

  /** Where they are profiled, all of them. */
  readonly made: Program[] = []
  private readonly profiled: boolean

  constructor(threads: number, profiled = false) {
    this.profiled = profiled
    this.threads = new Threads(threads)
  }

  compile({ operations, leaves }: Plan, roots: readonly Value[]): Program | undefined {
    try {
      const program = new Program(operations, leaves, roots, this.threads, this.pool, this.profiled)
      if (this.profiled) this.made.push(program)
      return program
    } catch (error) {
      if (!(error instanceof NotWritten)) throw error
      this.unwritten[error.what] = (this.unwritten[error.what] ?? 0) + 1
      return undefined
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
  const programs = new MachinePrograms(threads, profiled)
  const engine = await startOnnx({ threads, programs, name: 'machine', ...(onFallback ? { onFallback } : {}) })
  return {
    ...engine,
    version: `${instructions}, onnxruntime ${engine.version}`,
    unwritten: programs.unwritten,
    memoryBytes: () => programs.memoryBytes(),
    programs: programs.made,
    dispose() {
      engine.dispose()
      programs.close()
    },
  }
}
