import { npid } from './npid.ts'

/** Every method, by name. */
export const methods = { npid }
