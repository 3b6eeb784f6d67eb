import { known } from '../recording/record.ts'
import { refuseOutside, type Update } from '../recording/updates.ts'
import { entriesOf, type GpuBlock } from './buffers.ts'
import type { Reader } from './reading.ts'
import { groupIndex, groupsFor } from './shader.ts'
import type { World } from './world.ts'

const invocations = 256

/** Stands for the place of a row which one after it overwrites: rows are written in no order. */
const nowhere = 0xffff_ffff

/** A row count, a row's width, then the places. */
const code = `@group(0) @binding(0) var<storage, read> places: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> whole: array<u32>;
@compute @workgroup_size(${invocations})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) own: u32) {
  let i = ${groupIndex} * ${invocations}u + own;
  if (i >= places[0] * places[1]) { return; }
  let row = i / places[1];
  let place = places[2u + row];
  if (place == ${nowhere}u) { return; }
  whole[place * places[1] + i - row * places[1]] = rows[i];
}`

/** What the shader is told: of rows for the same place only the last is written. */
function wordsOf(places: ArrayLike<number>, width: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(2 + places.length)
  words[0] = places.length
  words[1] = width
  const seen = new Set<number>()
  for (let i = places.length - 1; i >= 0; i--) {
    words[2 + i] = seen.has(places[i]!) ? nowhere : places[i]!
    seen.add(places[i]!)
  }
  return words
}

/** Writes rows into the memory of what they replace. */
export class Updates {
  private readonly world: World
  private readonly reader: Reader
  private pipeline: GPUComputePipeline | undefined

  constructor(world: World, reader: Reader) {
    this.world = world
    this.reader = reader
  }

  async put({ root, base, places, rows, width, free }: Update): Promise<void> {
    const { gpu, buffers } = this.world
    const at = known(places)
    const size = root.shape.reduce((a, b) => a * b, 1)
    refuseOutside(at, size / width)
    const words = wordsOf(at, width)
    const whole = { bytes: 4 * size, what: { name: `a tensor [${root.shape.join(', ')}]`, shape: root.shape } }
    const told = { bytes: words.byteLength, what: { name: 'the places of an update', shape: [] } }
    const before = base.block as GpuBlock
    // A buffer that a shader writes cannot be read by it as well, in another part.
    const apart = before.memory !== (rows.block as GpuBlock).memory
    const inPlace = free && !before.shared && apart
    const [block, copy] = (await buffers.take(inPlace ? [told] : [told, whole])) as [GpuBlock, GpuBlock | undefined]
    const encoder = gpu.device.createCommandEncoder()
    if (copy) encoder.copyBufferToBuffer(before.memory, before.offset, copy.memory, 0, 4 * size)
    else {
      // Whoever asked for the numbers before this gets them as they were then.
      if (before.readers > 0) await this.reader.copyNow()
      base.block = undefined
    }
    root.block = copy ?? before
    buffers.write(block, words)
    this.pipeline ??= this.compile()
    const pass = encoder.beginComputePass()
    pass.setPipeline(this.pipeline)
    const bound = [block, rows.block as GpuBlock, root.block as GpuBlock]
    const entries = entriesOf(bound)
    pass.setBindGroup(0, gpu.device.createBindGroup({ layout: this.pipeline.getBindGroupLayout(0), entries }))
    pass.dispatchWorkgroups(...groupsFor(Math.ceil((at.length * width) / invocations)))
    pass.end()
    gpu.device.queue.submit([encoder.finish()])
    this.world.traffic.submissions++
    buffers.give(block)
  }

  private compile(): GPUComputePipeline {
    const { device } = this.world.gpu
    const module = device.createShaderModule({ label: 'update', code })
    return device.createComputePipeline({ label: 'update', layout: 'auto', compute: { module, entryPoint: 'main' } })
  }
}
