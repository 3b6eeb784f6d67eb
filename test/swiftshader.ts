import { existsSync } from 'node:fs'

/** The Vulkan driver of Debian's package chromium, which computes on the processor. */
const driver = '/usr/lib/chromium/vk_swiftshader_icd.json'

/** Whether tests of WebGPU can run here: in CI they must. The loader is Debian's package libvulkan1. */
export const hasSwiftShader = existsSync(driver) || process.env.CI === 'true'

/** The environment in which SwiftShader is the only Vulkan driver; without Mesa's layer, which talks of displays. */
export const swiftShader = { VK_ICD_FILENAMES: driver, VK_DRIVER_FILES: driver, NODEVICE_SELECT: '1' }

/**
 * Makes it the only driver of this process. The loader reads the environment when the first adapter is asked for, so
 * this must come before that.
 */
export function onlySwiftShader(): void {
  Object.assign(process.env, swiftShader)
}

/** What GESTALT_GPU, or `choice`, calls it. */
export const swiftShaderChoice = 'swiftshader'
