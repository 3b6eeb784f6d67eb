import { describe } from 'vitest'
import { startWebGpu } from '../../../src/engine/webgpu/index.ts'
import type { Method } from '../../../src/models/method.ts'
import { npid } from '../../../src/models/methods/npid.ts'
import { whatWhere } from '../../../src/models/methods/what-where.ts'
import { describeMethods } from '../../contracts/method-contract.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../../swiftshader.ts'

onlySwiftShader()

describe.runIf(hasSwiftShader)('on WebGPU', () => {
  describeMethods([npid, whatWhere] as unknown as Method[], () => startWebGpu({ choice: swiftShaderChoice }))
})
