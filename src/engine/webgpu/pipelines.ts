import { Unavailable } from '../../errors.ts'
import type { Gpu } from './device.ts'
import type { Bound, Shader } from './shader.ts'

/** A compiled shader. */
export interface Pipeline {
  pipeline: GPUComputePipeline
  layout: GPUBindGroupLayout
}

interface Kept {
  made: Promise<Pipeline>
  users: number
}

function declarations(bound: readonly Bound[]): string {
  return bound
    .map(
      ({ name, element, writes }, i) =>
        `@group(0) @binding(${i}) var<storage, ${writes ? 'read_write' : 'read'}> ${name}: array<${element}>;\n`,
    )
    .join('')
}

/** The text of a shader as the device gets it. */
export function textOf({ bound, code }: Shader): string {
  const enabled = bound.some(({ element }) => element.includes('f16')) ? 'enable f16;\n' : ''
  return enabled + declarations(bound) + code
}

/** Compiled shaders by their text, shared by all programs that need them. */
export class Pipelines {
  private readonly gpu: Gpu
  private readonly byText = new Map<string, Kept>()

  constructor(gpu: Gpu) {
    this.gpu = gpu
  }

  get count(): number {
    return this.byText.size
  }

  /** Throws Unavailable, with the compiler's words, where the device refuses it. */
  take(shader: Shader): Promise<Pipeline> {
    const text = textOf(shader)
    const kept = this.byText.get(text) ?? { made: this.compile(shader, text), users: 0 }
    kept.users++
    this.byText.set(text, kept)
    return kept.made
  }

  give(shader: Shader): void {
    const text = textOf(shader)
    const kept = this.byText.get(text)
    if (kept && --kept.users === 0) this.byText.delete(text)
  }

  private async compile({ label, bound }: Shader, text: string): Promise<Pipeline> {
    const { device } = this.gpu
    device.pushErrorScope('validation')
    const layout = device.createBindGroupLayout({
      entries: bound.map(({ writes }, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: writes ? 'storage' : 'read-only-storage' },
      })),
    })
    const module = device.createShaderModule({ label, code: text })
    const pipeline = device.createComputePipelineAsync({
      label,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: 'main' },
    })
    const refused = device.popErrorScope().catch(() => null)
    try {
      return { pipeline: await this.gpu.rest.until(pipeline), layout }
    } catch (cause) {
      this.gpu.check()
      const { messages } = await module.getCompilationInfo()
      const words = messages.map(({ message, lineNum }) => `line ${lineNum}: ${message}`)
      const why = words[0] ?? (await refused)?.message ?? (cause as Error).message
      throw new Unavailable(
        `${this.gpu.name} cannot compile a shader for ${label}: ${why}`,
        "this is a fault of the engine: report it with the output of 'gestalt doctor', and choose another, GESTALT_ENGINE=machine",
        { cause },
      )
    }
  }
}
