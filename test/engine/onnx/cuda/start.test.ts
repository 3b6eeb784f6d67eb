import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Api } from '../../../../src/engine/onnx/cuda/api.ts'
import { openDevice } from '../../../../src/engine/onnx/cuda/driver.ts'
import { explainStart, startOnnxCuda, whyNotHere } from '../../../../src/engine/onnx/cuda/index.ts'
import { findLibraries, packageLibrary } from '../../../../src/engine/onnx/cuda/libraries.ts'
import { DeviceRuntime, onProcessor } from '../../../../src/engine/onnx/cuda/runtime.ts'
import type { Node } from '../../../../src/engine/onnx/emitter.ts'
import { encodeModel } from '../../../../src/engine/onnx/encode.ts'
import { Unavailable } from '../../../../src/errors.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gestalt-libraries-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

function put(...files: string[]): void {
  for (const file of files) {
    mkdirSync(join(folder, file, '..'), { recursive: true })
    writeFileSync(join(folder, file), '')
  }
}

const missing = (text: RegExp) => expect.objectContaining({ name: 'Unavailable', message: expect.stringMatching(text) })

describe('where ONNX Runtime can be driven on CUDA', () => {
  it('is Linux on x86-64', () => {
    expect(whyNotHere('linux', 'x64')).toBeUndefined()
    expect(whyNotHere('darwin', 'arm64')).toMatch(/this is darwin arm64$/)
    expect(whyNotHere('linux', 'arm64')).toMatch(/this is linux arm64$/)
  })

  it.each(['onnxruntime/capi', 'lib', '.'])('is found with its provider in %s of a folder', (place) => {
    const names = ['libonnxruntime.so.1.30.0', 'libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so']
    put(...names.map((name) => join(place, name)), 'nvidia/cu13/lib/libcudart.so.13', 'nvidia/cu13/lib/libcudart.a')
    const found = findLibraries(folder)
    expect(found.runtime).toBe(join(folder, place, names[0]!))
    expect(found.cuda).toEqual([join(folder, 'nvidia/cu13/lib/libcudart.so.13')])
  })

  it('is said to lack the file that is not there, with the command that brings it', () => {
    expect(() => findLibraries(folder)).toThrow(missing(/^there is no libonnxruntime\.so in /))
    put('lib/libonnxruntime.so.1')
    expect(() => findLibraries(folder)).toThrow(missing(/^there is no libonnxruntime_providers_shared\.so in .*lib$/))
    put('lib/libonnxruntime_providers_shared.so')
    expect(() => findLibraries(folder)).toThrow(missing(/^there is no libonnxruntime_providers_cuda\.so in .*lib$/))
    expect(() => findLibraries(folder)).toThrow(
      expect.objectContaining({
        cure: expect.stringMatching(/pip install .*onnxruntime-gpu.*GESTALT_ONNXRUNTIME=DIR/),
      }),
    )
  })

  it.skipIf(whyNotHere())('is known by a driver that loads, and answers', () => {
    expect(() => openDevice(0, 'libno-such-driver.so.1')).toThrow(missing(/driver does not load: libno-such-driver/))
    expect(() => openDevice(0, 'libc.so.6')).toThrow(missing(/libc\.so\.6 is no driver/))
  })

  it('gives reason and cure where it is not', async () => {
    const failure = await startOnnxCuda({ threads: 1, libraries: folder }).catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(Unavailable)
    expect((failure as Unavailable).cure).toMatch(/nvidia-smi|pip install/)
  })
})

describe('what the CUDA provider says when it does not start', () => {
  const at = '/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:1988 [ONNXRuntimeError] : 1 : FAIL : '
  const explained = (words: string) => explainStart(new Error(at + words))

  it('names the library of CUDA that is missing', () => {
    const words = 'Failed to load library /x/libonnxruntime_providers_cuda.so with error: '
    const { message, cure } = explained(`${words}libcublasLt.so.13: cannot open shared object file: No such file`)
    expect(message).toBe(
      "CUDA's library libcublasLt.so.13 does not load: libcublasLt.so.13: cannot open shared object file: No such file",
    )
    expect(cure).toMatch(/pip install .* or install CUDA and cuDNN 9 .*LD_LIBRARY_PATH/)
  })

  it('tells an old driver from a GPU that does not answer', () => {
    const old = explained('Failed to parse "device_id": CUDA failure 35: CUDA driver version is insufficient')
    expect([old.message, old.cure]).toEqual([
      expect.stringMatching(/^the driver is too old .*CUDA failure 35/),
      expect.stringMatching(/580 or later/),
    ])
    const other = explained('CUDA failure 209: no kernel image is available for execution on the device')
    expect(other.message).toMatch(/^ONNX Runtime's CUDA provider does not start: .*209: no kernel image/)
  })

  it('passes on what was explained already', () => {
    const known = new Unavailable('there is no GPU', 'take one')
    expect(explainStart(known)).toBe(known)
  })
})

describe.skipIf(whyNotHere())('the C API', () => {
  it('is that of the version that the functions were counted in', () => {
    const api = new Api(packageLibrary())
    expect(api.version).toBe('1.30.0')
    expect(() => new Api(join(folder, 'none.so'))).toThrow(/none\.so/)
  })

  it('tells what the library says of what it cannot do, and frees it', () => {
    const runtime = new DeviceRuntime(packageLibrary(), 1, onProcessor)
    const noModel = Uint8Array.of(1, 2, 3)
    expect(() => runtime.open(noModel)).toThrow(missing(/the engine cannot compute this: .*protobuf parsing failed/))
    for (let i = 0; i < 500; i++) expect(() => runtime.open(noModel)).toThrow(Unavailable)
    const resident = process.memoryUsage().rss
    for (let i = 0; i < 3000; i++) expect(() => runtime.open(noModel)).toThrow(Unavailable)
    expect((process.memoryUsage().rss - resident) / 2 ** 20).toBeLessThan(40)
    runtime.close()
  })

  it('is asked for CUDA with a device and options, and names the library that it lacks for that', () => {
    const place = { memory: 'Cuda', provider: 'CUDAExecutionProvider', device: 0 } as const
    let failure: unknown
    try {
      new DeviceRuntime(packageLibrary(), 1, place).close()
    } catch (error) {
      failure = explainStart(error)
    }
    expect(failure).toMatchObject({
      message: expect.stringMatching(/^ONNX Runtime's library libonnxruntime_providers_shared\.so does not load: /),
      cure: expect.stringMatching(/pip install .*onnxruntime-gpu/),
    })
  })

  it('says of each node of a graph where it is computed', () => {
    const runtime = new DeviceRuntime(packageLibrary(), 1, onProcessor)
    const one: Node = {
      ...{ op: 'Atan', inputs: ['x'], outputs: ['y'], domain: '', name: 'Atan/Atan/0' },
      attributes: {},
    }
    const port = { dtype: 'float32', shape: [2] } as const
    const inputs = [{ name: 'x', ...port }]
    const model = encodeModel({ nodes: [one], inputs, outputs: [{ name: 'y', ...port }], constants: [] })
    const here = runtime.open(model)
    expect(here.elsewhere).toEqual([])
    // As though it had been asked to compute on CUDA.
    Object.assign(runtime, { place: { ...onProcessor, provider: 'CUDAExecutionProvider' } })
    const there = runtime.open(model)
    expect(there.elsewhere).toEqual([{ provider: onProcessor.provider, node: 'Atan/Atan/0', operator: 'Atan' }])
    for (const session of [here, there]) session.close()
    runtime.close()
  })
})
