import type { Logger } from '../src/experiments/context.ts'

/** A log for what is not looked at. */
export const silent: Logger = { info() {}, warn() {}, error() {} }
