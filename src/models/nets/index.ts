import { small } from './small.ts'

/** Every family of nets, by name. */
export const nets = { small }
