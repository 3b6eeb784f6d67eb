import { existsSync } from 'node:fs'
import type { Node, SpecialNode } from '../../../src/engine/graph/node.ts'
import type { Facts, GpuSpecial, Scratch, Shader } from '../../../src/engine/webgpu/shader.ts'

const driver = '/usr/lib/chromium/vk_swiftshader_icd.json'
export const whyNoDriver = existsSync(driver) ? undefined : `no SwiftShader at ${driver}`

/** A bare device, and shaders run on it one after the other. */
export interface Bench {
  facts: Facts
  run(
    shaders: readonly Shader[],
    numbers: ReadonlyMap<Node, Float32Array | Int32Array>,
    self: Node,
  ): Promise<Float32Array>
  close(): void
}

const sizeOf = (node: Node) => node.shape.reduce((size, side) => size * side, 1)
const rounded = (bytes: number) => Math.max(16, 16 * Math.ceil(bytes / 16))

function wgsl({ bound, code }: Shader): string {
  const bindings = bound.map(
    ({ name, element, writes }, i) =>
      `@group(0) @binding(${i}) var<storage, ${writes ? 'read_write' : 'read'}> ${name}: array<${element}>;\n`,
  )
  return bindings.join('') + code
}

export async function openBench(): Promise<Bench> {
  process.env.VK_ICD_FILENAMES ??= driver
  const { create, globals } = await import('webgpu')
  Object.assign(globalThis, globals)
  // Kept, for without it the device dies.
  let gpu: GPU | undefined = create([])
  const adapter = await gpu.requestAdapter()
  if (!adapter) throw new Error('no adapter')
  const { maxComputeInvocationsPerWorkgroup: invocations, maxComputeWorkgroupStorageSize: shared } = adapter.limits
  const device = await adapter.requestDevice({
    requiredLimits: { maxComputeInvocationsPerWorkgroup: invocations, maxComputeWorkgroupStorageSize: shared },
  })
  const facts: Facts = { subgroups: undefined, invocations, shared, buffers: 8 }
  const storage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
  const run: Bench['run'] = async (shaders, numbers, self) => {
    const buffers = new Map<Node | string, GPUBuffer>()
    const make = (of: Node | Scratch) => {
      const key = 'scratch' in of ? of.scratch : of
      let buffer = buffers.get(key)
      if (buffer) return buffer
      const bytes = 'scratch' in of ? of.bytes : 4 * sizeOf(of)
      buffer = device.createBuffer({ size: rounded(bytes), usage: storage })
      buffers.set(key, buffer)
      const given = 'scratch' in of ? undefined : numbers.get(of)
      // What nobody writes must not pass for a zero that was computed.
      device.queue.writeBuffer(buffer, 0, given ?? new Float32Array(rounded(bytes) / 4).fill(Number.NaN))
      return buffer
    }
    const encoder = device.createCommandEncoder()
    const pass = encoder.beginComputePass()
    device.pushErrorScope('validation')
    for (const shader of shaders) {
      const module = device.createShaderModule({ code: wgsl(shader), label: shader.label })
      const { messages } = await module.getCompilationInfo()
      if (messages.length > 0)
        throw new Error(messages.map(({ lineNum, message }) => `${shader.label}: ${lineNum}: ${message}`).join('\n'))
      const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: 'main' } })
      const entries = shader.bound.map(({ of }, binding) => ({ binding, resource: { buffer: make(of) } }))
      pass.setPipeline(pipeline)
      pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }))
      pass.dispatchWorkgroups(...shader.groups)
    }
    pass.end()
    const bytes = rounded(4 * sizeOf(self))
    const back = device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST })
    encoder.copyBufferToBuffer(buffers.get(self)!, 0, back, 0, bytes)
    device.queue.submit([encoder.finish()])
    const error = await device.popErrorScope()
    if (error) throw new Error(error.message)
    await back.mapAsync(GPUMapMode.READ)
    const got = new Float32Array(back.getMappedRange().slice(0), 0, sizeOf(self))
    for (const buffer of [...buffers.values(), back]) buffer.destroy()
    return got
  }
  return { facts, run, close: () => {
      device.destroy()
      gpu = undefined
    },
  }
}

/** The shaders of a node of this engine's own kind. */
export function shadersOf(node: Node, facts: Facts): Shader[] {
  return ((node as SpecialNode).special as GpuSpecial).shaders(node, facts)
}
