import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Folder of the clone or image this code runs from. */
export const installation = resolve(dirname(fileURLToPath(import.meta.url)), '..')

/** Runs a module of ours in another process or thread: its first argument, as `jobs/child`. */
export const launcher = join(installation, 'bin/launch.js')
