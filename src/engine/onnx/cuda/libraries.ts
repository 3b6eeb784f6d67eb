import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { Unavailable } from '../../../errors.ts'
import { loaded, loadKoffi } from './api.ts'

/** Beside the runtime's own library, which looks for them there. */
const providers = ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so'] as const

export const cure =
  "install them, for CUDA 13: pip install --target DIR 'onnxruntime-gpu[cuda,cudnn]==1.30.0', and set " +
  'GESTALT_ONNXRUNTIME=DIR (docs/engines.md)'

/** What of the system the engine needs. */
export interface Libraries {
  /** ONNX Runtime's library, with those of its CUDA provider beside it. */
  runtime: string
  /** Those of CUDA that were found with it; others are the system's to find. */
  cuda: readonly string[]
}

/** Where ONNX Runtime lies in what was installed or unpacked: pip's folder, the wheel's, or that of a release. */
const inside = ['', 'onnxruntime/capi', 'lib']

const isLibrary = (name: string) => /^lib.+\.so(\.\d+)*$/.test(name)
const listed = (folder: string) => (existsSync(folder) ? readdirSync(folder) : [])
const runtimeIn = (folder: string) =>
  listed(folder).find((name) => /^libonnxruntime\.so(\.\d+)+$/.test(name)) ??
  listed(folder).find((name) => name === 'libonnxruntime.so')

/** The folder of the npm package's own library. */
function packageFolder(): string {
  const home = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'))
  const versions = listed(join(home, 'bin'))
  return join(home, 'bin', versions[0] ?? '', 'linux', 'x64')
}

/** The npm package's own library, with or without providers beside it. */
export function packageLibrary(): string {
  const folder = packageFolder()
  return join(folder, runtimeIn(folder) ?? 'libonnxruntime.so.1')
}

/** Libraries of CUDA that pip put beside a package of Python: <folder>/nvidia/<name>/lib/*.so. */
function besideIn(folder: string): string[] {
  const own = join(folder, 'nvidia')
  return listed(own).flatMap((name) => {
    const lib = join(own, name, 'lib')
    return listed(lib).flatMap((file) => (isLibrary(file) ? [join(lib, file)] : []))
  })
}

/**
 * The libraries in a folder, or beside the npm package's own where none is named. Throws Unavailable, with the file that
 * is missing and the cure.
 */
export function findLibraries(folder?: string): Libraries {
  const where = folder === undefined ? [packageFolder()] : inside.map((path) => join(folder, path))
  const found = where.find((one) => runtimeIn(one) !== undefined)
  if (!found) throw new Unavailable(`there is no libonnxruntime.so in ${where.join(', ')}`, cure)
  for (const file of providers)
    if (!existsSync(join(found, file))) throw new Unavailable(`there is no ${file} in ${found}`, cure)
  const roots = [found, folder, dirname(dirname(found))].filter((one) => one !== undefined)
  return { runtime: join(found, runtimeIn(found)!), cuda: [...new Set(roots)].flatMap(besideIn) }
}

/** Loads libraries that need each other, in an order in which they load; what does not is told by who needs it. */
export function preload(files: readonly string[]): void {
  const koffi = loadKoffi()
  let left = files
  for (let round = 0; round < 4 && left.length > 0; round++)
    left = left.filter((file) => {
      try {
        loaded(koffi, file)
        return false
      } catch {
        return true
      }
    })
}
