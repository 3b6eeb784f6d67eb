import { deepcluster } from './deepcluster.ts'
import { npid } from './npid.ts'
import { supervised } from './supervised.ts'
import { swwae } from './swwae.ts'
import { whatWhere } from './what-where.ts'

/** Every method, by name. */
export const methods = { deepcluster, npid, supervised, swwae, 'what-where': whatWhere }
