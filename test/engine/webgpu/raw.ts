import { existsSync } from 'node:fs'
import type { Node } from '../../../src/engine/graph/node.ts'
import type { Bound, Facts, GpuSpecial, Shader } from '../../../src/engine/webgpu/shader.ts'

/** The software device of Debian's chromium, for machines without another. */
const software = '/usr/lib/chromium/vk_swiftshader_icd.json'

const isScratch = (of: Bound['of']): of is Exclude<Bound['of'], Node> => 'scratch' in of

export type Numbers = Float32Array | Int32Array

/** A device that runs shaders one after the other, without the engine. */
export class RawDevice {
  private readonly device: GPUDevice
  /** What is not referred to ends, and devices with it. */
  readonly gpu: GPU

  readonly facts: Facts

  private constructor(gpu: GPU, device: GPUDevice) {
    this.gpu = gpu
    this.device = device
    const { maxComputeInvocationsPerWorkgroup: invocations, maxComputeWorkgroupStorageSize: shared } = device.limits
    this.facts = { subgroups: undefined, invocations, shared, buffers: device.limits.maxStorageBuffersPerShaderStage }
  }

  static async open(): Promise<RawDevice> {
    if (existsSync(software)) process.env.VK_ICD_FILENAMES ??= software
    const { create, globals } = await import('webgpu')
    Object.assign(globalThis, globals)
    const gpu = create(['enable-dawn-features=disable_workgroup_init'])
    const adapter = await gpu.requestAdapter()
    const { maxComputeWorkgroupStorageSize } = adapter!.limits
    return new RawDevice(gpu, await adapter!.requestDevice({ requiredLimits: { maxComputeWorkgroupStorageSize } }))
  }

  close(): void {
    this.device.destroy()
  }

  /** Computes a node of the engine's own kind from others. */
  compute(node: Node, given: ReadonlyMap<Node, Numbers>): Promise<Numbers> {
    if (node.kind !== 'special') throw new Error('only specials have shaders of their own')
    return this.run((node.special as GpuSpecial).shaders(node, this.facts), given, node)
  }

  /** Runs shaders on some numbers, by the node that has them, and gives those of one node. */
  async run(shaders: readonly Shader[], given: ReadonlyMap<Node, Numbers>, wanted: Node): Promise<Numbers> {
    const { device } = this
    const buffers = new Map<Bound['of'], GPUBuffer>()
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC
    const bytesOf = (of: Bound['of']) => {
      const bytes = isScratch(of) ? of.bytes : 4 * of.shape.reduce((a, b) => a * b, 1)
      return 16 * Math.ceil(bytes / 16)
    }
    const bufferOf = (of: Bound['of']) => {
      const made = buffers.get(of) ?? device.createBuffer({ size: bytesOf(of), usage })
      const numbers = isScratch(of) ? undefined : given.get(of)
      // What nobody writes must not pass for zeros that were computed.
      const begin = numbers ?? new Float32Array(bytesOf(of) / 4).fill(Number.NaN)
      if (!buffers.has(of)) device.queue.writeBuffer(made, 0, begin as Float32Array<ArrayBuffer>)
      buffers.set(of, made)
      return made
    }
    const encoder = device.createCommandEncoder()
    for (const { bound, code, groups, label } of shaders) {
      const declared = bound.map(
        ({ name, element, writes }, i) =>
          `@group(0) @binding(${i}) var<storage, ${writes ? 'read_write' : 'read'}> ${name}: array<${element}>;`,
      )
      const module = device.createShaderModule({ label, code: `${declared.join('\n')}\n${code}` })
      const { messages } = await module.getCompilationInfo()
      const wrong = messages.find(({ type }) => type === 'error')
      if (wrong) throw new Error(`${label}, line ${wrong.lineNum - bound.length}: ${wrong.message}\n${code}`)
      const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: 'main' } })
      const entries = bound.map(({ of }, binding) => ({ binding, resource: { buffer: bufferOf(of) } }))
      const pass = encoder.beginComputePass()
      pass.setPipeline(pipeline)
      pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }))
      pass.dispatchWorkgroups(...groups)
      pass.end()
    }
    const size = bytesOf(wanted)
    const read = device.createBuffer({ size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ })
    encoder.copyBufferToBuffer(bufferOf(wanted), 0, read, 0, size)
    device.queue.submit([encoder.finish()])
    await read.mapAsync(GPUMapMode.READ)
    const Kind = wanted.dtype === 'float32' ? Float32Array : Int32Array
    const count = wanted.shape.reduce((a, b) => a * b, 1)
    const made = new Kind(read.getMappedRange().slice(0)).slice(0, count)
    for (const buffer of [read, ...buffers.values()]) buffer.destroy()
    return made
  }
}
