import { deepcluster } from './deepcluster.ts'
import { npid } from './npid.ts'

/** Every method, by name. */
export const methods = { deepcluster, npid }
