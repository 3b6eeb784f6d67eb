import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadDawn } from '../../../src/engine/webgpu/adapters.ts'
import { diagnose, explain, withoutCard } from '../../../src/engine/webgpu/diagnosis.ts'
import { hasSwiftShader, swiftShader } from '../../swiftshader.ts'

const folder = mkdtempSync(join(tmpdir(), 'gestalt-diagnosis-'))
const linux = process.platform === 'linux' && hasSwiftShader

/** What is found where the environment is so. */
async function found(changes: Record<string, string>) {
  return diagnose((await loadDawn()).file, { ...process.env, ...changes })
}

/** The environment in which the only driver is the one that a file with this text names. */
function driver(description: object | string): Record<string, string> {
  const file = join(mkdtempSync(join(folder, 'driver-')), 'icd.json')
  writeFileSync(file, typeof description === 'string' ? description : JSON.stringify(description))
  return { VK_ICD_FILENAMES: file, VK_DRIVER_FILES: file }
}

describe.skipIf(!linux)('why there is no GPU', () => {
  it('is the Vulkan loader where that cannot be loaded', async () => {
    writeFileSync(join(folder, 'libvulkan.so.1'), 'not a library')
    const { reason, cure } = await found({ LD_LIBRARY_PATH: folder })
    expect(reason).toMatch(/^the Vulkan loader cannot be loaded: .*libvulkan\.so\.1: file too short/)
    expect(cure).toContain('libvulkan1')
  })

  it('is the driver where there is none', async () => {
    const { reason, cure } = await found({ VK_ICD_FILENAMES: folder, VK_DRIVER_FILES: folder })
    expect(reason).toBe('the Vulkan loader finds no driver')
    expect(cure).toMatch(/nvidia_icd\.json.*mesa-vulkan-drivers.*docs\/gpu\.md/)
  })

  it("is the driver's library where a driver is named whose library is missing", async () => {
    const ICD = { library_path: 'libGLX_nothing.so.0', api_version: '1.3.242' }
    const { reason } = await found(driver({ file_format_version: '1.0.0', ICD }))
    expect(reason).toBe(
      "the driver's library libGLX_nothing.so.0 is named but does not load: " +
        'cannot open shared object file: No such file or directory',
    )
  })

  it("is a driver's description that is none, or not there", async () => {
    const broken = driver('{"file_format_version": oops')
    const { reason, cure } = await found(broken)
    expect(reason).toBe(`the description of a Vulkan driver cannot be read: ${broken.VK_DRIVER_FILES}`)
    expect(cure).toMatch(/^correct it or take it away; VK_DRIVER_FILES and VK_ICD_FILENAMES name such files/)
    const missing = await found({ VK_ICD_FILENAMES: '/none.json', VK_DRIVER_FILES: '/none.json' })
    expect(missing.reason).toBe('the description of a Vulkan driver cannot be read: /none.json')
  })

  it('is first of all that the machine shows none, where that is so', async () => {
    const told = { reason: 'no driver', cure: 'install it' }
    const devices = mkdtempSync(join(folder, 'dev-'))
    expect(await withoutCard(told, devices)).toEqual({
      reason: expect.stringMatching(/^this machine shows no GPU \(neither .*nvidia0 nor .*renderD128 .*\); no driver$/),
      cure: expect.stringMatching(/container.*docs\/gpu\.md.*; then install it$/),
    })
    writeFileSync(join(devices, 'nvidiactl'), '')
    expect(await withoutCard(told, devices)).not.toEqual(told)
    writeFileSync(join(devices, 'nvidia1'), '')
    expect(await withoutCard(told, devices)).toEqual(told)
  })

  it('is nothing that is printed where a driver works', async () => {
    expect((await found(swiftShader)).reason).toBe('no driver shows a GPU')
  })
})

describe('what Dawn and the Vulkan loader print', () => {
  it.each([
    ["Warning: Couldn't load Vulkan: libvulkan.so.1: cannot open shared object file", 'loader cannot be loaded: libv'],
    ['Warning: Vulkan API version (1.0) was not at least 1.1.', 'too old or too small for Dawn: Vulkan API version'],
    [
      'error: XDG_RUNTIME_DIR is invalid or not set in the environment.\n' +
        'Warning: Vulkan shaderUniform*ArrayDynamicIndexing required.\n - While initializing adapter',
      'too old or too small for Dawn: Vulkan shaderUniform*ArrayDynamicIndexing required',
    ],
    [
      'Warning: libXext.so.6: cannot open shared object file: No such file or directory\n' +
        'Warning: loader_icd_scan: Failed loading library associated with ICD JSON libGLX_nvidia.so.0. Ignoring this JSON\n' +
        'Warning: vkCreateInstance: Found no drivers!',
      "the driver's library libGLX_nvidia.so.0 needs libXext.so.6, which does not load: cannot open shared object",
    ],
    [
      'Warning: terminator_CreateInstance: Failed to CreateInstance in ICD 0.  Skipping ICD.\n' +
        'Warning: vkCreateInstance: Found no drivers!',
      'is there and does not start: Failed to CreateInstance in ICD 0',
    ],
    ['Warning: vkEnumeratePhysicalDevices failed with VK_ERROR_INITIALIZATION_FAILED', 'does not start: VK_ERROR_INIT'],
    ['Warning: vkCreateInstance failed with VK_ERROR_INCOMPATIBLE_DRIVER', 'the Vulkan loader finds no driver'],
    ['', 'no driver shows a GPU'],
  ])('%j means that %s', (words, reason) => {
    expect(explain(words).reason).toContain(reason)
    expect(explain(words).cure).not.toBe('')
  })
})
