import { known } from '../recording/record.ts'
import { refuseOutside, type Update } from '../recording/updates.ts'
import type { GpuBlock } from './buffers.ts'
import { groupIndex, groupsFor } from './shader.ts'
import type { World } from './world.ts'

const invocations = 256

/** A row count, a row's width, then the places. Of a place that is there twice either row is written: they are equal. */
const code = `@group(0) @binding(0) var<storage, read> places: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> whole: array<u32>;
@compute @workgroup_size(${invocations})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) own: u32) {
  let i = ${groupIndex} * ${invocations}u + own;
  if (i >= places[0] * places[1]) { return; }
  let row = i / places[1];
  whole[places[2u + row] * places[1] + i - row * places[1]] = rows[i];
}`

/** Writes rows into the memory of what they replace. */
export class Updates {
  private readonly world: World
  private pipeline: GPUComputePipeline | undefined

  constructor(world: World) {
    this.world = world
  }

  put({ root, base, places, rows, width, free }: Update): void {
    const { gpu, buffers } = this.world
    const at = known(places)
    const size = root.shape.reduce((a, b) => a * b, 1)
    refuseOutside(at, size / width)
    const purpose = { name: `a tensor [${root.shape.join(', ')}]`, shape: root.shape }
    const before = base.block as GpuBlock
    const encoder = gpu.device.createCommandEncoder()
    if (free) {
      root.block = before
      base.block = undefined
    } else {
      const copy = buffers.take(4 * size, purpose)
      encoder.copyBufferToBuffer(before.memory, 0, copy.memory, 0, 4 * size)
      root.block = copy
    }
    const words = Uint32Array.of(at.length, width, ...at)
    const block = buffers.take(words.byteLength, { name: 'the places of an update', shape: [] })
    gpu.device.queue.writeBuffer(block.memory, 0, words)
    this.pipeline ??= this.compile()
    const pass = encoder.beginComputePass()
    pass.setPipeline(this.pipeline)
    const bound = [block, rows.block as GpuBlock, root.block as GpuBlock]
    const entries = bound.map(({ memory }, binding) => ({ binding, resource: { buffer: memory } }))
    pass.setBindGroup(0, gpu.device.createBindGroup({ layout: this.pipeline.getBindGroupLayout(0), entries }))
    pass.dispatchWorkgroups(...groupsFor(Math.ceil((at.length * width) / invocations)))
    pass.end()
    gpu.device.queue.submit([encoder.finish()])
    buffers.give(block)
  }

  private compile(): GPUComputePipeline {
    const { device } = this.world.gpu
    const module = device.createShaderModule({ label: 'update', code })
    return device.createComputePipeline({ label: 'update', layout: 'auto', compute: { module, entryPoint: 'main' } })
  }
}
