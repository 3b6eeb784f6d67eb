import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { chosenOf, isSoftware, loadDawn, openAdapter } from '../../../src/engine/webgpu/adapters.ts'
import { type Gpu, openGpu } from '../../../src/engine/webgpu/device.ts'
import { startWebGpu } from '../../../src/engine/webgpu/index.ts'
import { GpuFull, Unavailable } from '../../../src/errors.ts'
import { tf } from '../../../src/tf.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../../swiftshader.ts'

onlySwiftShader()

const list = ['NVIDIA H200', 'AMD Radeon Pro W7900 (RADV NAVI31)', 'SwiftShader Device (Subzero)'].map(
  (name, index) => ({ index, name, backend: 'vulkan' }),
)
const indices = (choice?: string) => chosenOf(list, choice).map(({ index }) => index)

describe('the choice of a GPU', () => {
  it('takes all without a choice, one by its number, and those with a part of a name', () => {
    expect(indices()).toEqual([0, 1, 2])
    expect(indices('1')).toEqual([1])
    expect(indices('h200')).toEqual([0])
    expect(indices('radv')).toEqual([1])
    expect(indices('a')).toEqual([0, 1, 2])
  })

  it.each(['3', '00012', 'geforce'])('says which there are where %s is none of them', (choice) => {
    const error = (() => {
      try {
        return chosenOf(list, choice)
      } catch (thrown) {
        return thrown
      }
    })() as Unavailable
    expect(error).toBeInstanceOf(Unavailable)
    expect(error.message).toContain(`no GPU '${choice}' here; there are: 0 (NVIDIA H200), 1 (AMD`)
    expect(error.cure).toContain('GESTALT_GPU')
  })

  it('knows what computes on the processor by its name or by what the driver says', () => {
    expect(list.map(({ name }) => isSoftware(name))).toEqual([false, false, true])
    expect(isSoftware('llvmpipe (LLVM 19.1.7, 256 bits)')).toBe(true)
    expect(isSoftware('Microsoft Basic Render Driver')).toBe(true)
    expect(isSoftware('Something', { isFallbackAdapter: true } as GPUAdapterInfo)).toBe(true)
  })

  it('refuses a second GPU of the same name, which cannot be had, rather than to take the first', async () => {
    const twins = [0, 1].map((index) => ({ index, name: 'NVIDIA H200', backend: 'vulkan' }))
    const opened = openAdapter({} as never, twins[1]!, twins, [])
    await expect(opened).rejects.toThrow(/GPU 1 \(NVIDIA H200\) cannot be told from GPU 0/)
    await expect(opened).rejects.toMatchObject({ cure: expect.stringContaining('NVIDIA_VISIBLE_DEVICES') })
  })
})

/** A folder beside which a package webgpu lies with this for its main file; none where there is no text. */
function folderWith(main?: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'gestalt-webgpu-'))
  if (main !== undefined) {
    mkdirSync(join(folder, 'node_modules/webgpu'), { recursive: true })
    writeFileSync(
      join(folder, 'node_modules/webgpu/package.json'),
      '{"type":"module","main":"index.js","version":"1.2.3"}',
    )
    writeFileSync(join(folder, 'node_modules/webgpu/index.js'), main)
  }
  return pathToFileURL(join(folder, 'main.js')).href
}

describe('the package webgpu', () => {
  it('is named with the cure where it is missing', async () => {
    const gpu = openGpu({ from: folderWith() })
    await expect(gpu).rejects.toThrow('the optional package webgpu is not installed')
    await expect(gpu).rejects.toMatchObject({ code: 'unavailable', cure: expect.stringContaining('npm ci') })
  })

  it('is named with the reason where it does not load', async () => {
    const broken = folderWith("throw new Error('the file is cut short')")
    await expect(loadDawn(broken)).rejects.toThrow(/webgpu does not load: the file is cut short/)
    await expect(loadDawn(broken)).rejects.toMatchObject({ cure: expect.stringContaining('npm ci') })
    const words = "/lib64/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by dawn.node)"
    const newer = folderWith(`throw new Error(${JSON.stringify(words)})`)
    await expect(loadDawn(newer)).rejects.toMatchObject({
      cure: expect.stringMatching(/older than the library, which needs GLIBCXX_3\.4\.30/),
    })
  })
})

describe.skipIf(!hasSwiftShader)('a GPU', () => {
  let gpu: Gpu | undefined
  const open = async () => {
    gpu = await openGpu({ choice: swiftShaderChoice })
    return gpu
  }
  afterEach(() => gpu?.close())

  it('is not taken where it is the processor in disguise and nobody names it', async () => {
    for (const options of [{}, { choice: 'swift', software: false }]) {
      const opened = openGpu(options)
      await expect(opened).rejects.toThrow(/only a software adapter was found \(SwiftShader Device/)
      await expect(opened).rejects.toMatchObject({ cure: expect.stringContaining('GESTALT_GPU=swiftshader') })
    }
  })

  it('is opened by name or number, with all that it can', async () => {
    const { name, driver, version, software, limits, features, failure } = await open()
    expect({ name, driver, version, software, failure }).toEqual({
      ...{ name: 'SwiftShader Device (Subzero)', driver: expect.stringContaining('SwiftShader'), version: '0.6.2' },
      ...{ software: true, failure: undefined },
    })
    expect(limits.maxBufferSize).toBeGreaterThan(2 ** 28)
    expect(limits.maxStorageBufferBindingSize).toBeGreaterThan(2 ** 27)
    expect(limits.maxComputeWorkgroupStorageSize).toBeGreaterThan(16384)
    expect(features).toMatchObject({ subgroups: { min: 4, max: 4 }, timestamps: true, half: false, matrices: [] })
    gpu!.close()
    expect((await openGpu({ choice: '0' })).close()).toBeUndefined()
  })

  it('computes', async () => {
    const { device } = await open()
    const size = 1024
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC
    const values = device.createBuffer({ size, usage })
    const read = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST })
    const code =
      '@group(0) @binding(0) var<storage, read_write> x: array<f32>;' +
      '@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) at: vec3u) { x[at.x] = f32(at.x) / 2; }'
    const compute = { module: device.createShaderModule({ code }), entryPoint: 'main' }
    const pipeline = device.createComputePipeline({ layout: 'auto', compute })
    const encoder = device.createCommandEncoder()
    const pass = encoder.beginComputePass()
    pass.setPipeline(pipeline)
    const layout = pipeline.getBindGroupLayout(0)
    pass.setBindGroup(0, device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: values } }] }))
    pass.dispatchWorkgroups(size / 4 / 64)
    pass.end()
    encoder.copyBufferToBuffer(values, 0, read, 0, size)
    device.queue.submit([encoder.finish()])
    await read.mapAsync(GPUMapMode.READ)
    const found = new Float32Array(read.getMappedRange().slice(0))
    expect(found).toEqual(Float32Array.from({ length: size / 4 }, (_, i) => i / 2))
    gpu!.check()
  })

  it('keeps the first error that nobody caught, and can be asked for it', async () => {
    const { device, lost } = await open()
    device.createBuffer({ size: 16, usage: 0xffff, label: 'odd' })
    const failure = await lost
    expect(failure).toBeInstanceOf(Unavailable)
    expect(failure.message).toMatch(/^the GPU SwiftShader Device \(Subzero\) refuses what it is told: .*65535.*Usage/)
    expect(failure.cure).toContain('checkpoint')
    expect(gpu!.failure).toBe(failure)
    expect(() => gpu!.check()).toThrow(failure)
  })

  it('says that its memory does not suffice', async () => {
    const { device, limits, lost } = await open()
    // Addresses cost nothing here; there are not that many.
    for (let i = 0; i < 200_000 && !gpu!.failure; i++) {
      device.createBuffer({ size: limits.maxBufferSize, usage: GPUBufferUsage.STORAGE, label: `big ${i}` })
      if (i % 1000 === 0) await new Promise((resolve) => setTimeout(resolve))
    }
    const failure = await lost
    expect(failure).toBeInstanceOf(GpuFull)
    expect(failure.message).toMatch(/memory of the GPU SwiftShader.*does not suffice/)
    expect(failure.cure).toContain('training.batchSize')
  })

  it('tells that it was lost, and what waits for it ends', async () => {
    const { device, lost } = await open()
    const read = device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST })
    const waiting = read.mapAsync(GPUMapMode.READ)
    device.destroy() // as nobody but close() does
    await expect(waiting).rejects.toThrow()
    const failure = await lost
    expect(failure).toBeInstanceOf(Unavailable)
    expect(failure.message).toMatch(/was lost \(destroyed\)/)
    expect(() => gpu!.check()).toThrow(failure)
  })

  it('is no failure where it is closed, twice if need be', async () => {
    const { device } = await open()
    gpu!.close()
    gpu!.close()
    await device.lost
    expect(gpu!.failure).toBeUndefined()
  })

  it('is given back where tfjs cannot be made to compute on it', async () => {
    await open()
    const devices: GPUDevice[] = []
    const { requestDevice } = GPUAdapter.prototype
    GPUAdapter.prototype.requestDevice = async function (...given) {
      const device = await requestDevice.apply(this, given)
      devices.push(device)
      return device
    }
    const { prototype } = tf.Optimizer
    const { minimize } = prototype
    Object.defineProperty(prototype, 'minimize', { writable: false })
    try {
      await expect(startWebGpu({ choice: swiftShaderChoice })).rejects.toThrow(TypeError)
    } finally {
      Object.defineProperty(prototype, 'minimize', { value: minimize, writable: true })
      GPUAdapter.prototype.requestDevice = requestDevice
    }
    expect(devices).toHaveLength(1)
    expect(await devices[0]!.lost).toMatchObject({ reason: 'destroyed' })
    expect(tf.findBackendFactory('webgpu')).toBeNull()
  })
})
