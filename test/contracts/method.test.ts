import { chooseEngine } from '../../src/engine/choose.ts'
import type { Method } from '../../src/models/method.ts'
import { methods } from '../../src/models/methods/index.ts'
import { describeMethods } from './method-contract.ts'

describeMethods(Object.values(methods) as unknown as Method[], () => chooseEngine('auto'))
