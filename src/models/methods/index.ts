import { deepcluster } from './deepcluster.ts'
import { npid } from './npid.ts'
import { swwae } from './swwae.ts'
import { whatWhere } from './what-where.ts'

/** Every method, by name. */
export const methods = { deepcluster, npid, swwae, 'what-where': whatWhere }
