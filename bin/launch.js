// Runs a module of ours, named without its ending ('cli/main'): in a clone the sources as they stand, compiled where
// they have changed since; elsewhere (a container image) the build. As a program: node bin/launch.js MODULE.
import { existsSync, realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { isMainThread } from 'node:worker_threads'

const isThere = (path) => existsSync(new URL(path, import.meta.url))

/** Whether the compiled code is what the sources are. It is not in a clone that its user may not write. */
async function isCompiled() {
  if (!isThere('../src/')) return true
  const { compileChanged } = await import('./compile.js')
  return compileChanged().then(
    () => true,
    (error) => {
      if (['EACCES', 'EPERM', 'EROFS'].includes(error.code)) return false
      throw error
    },
  )
}

export async function launch(name) {
  if (await isCompiled()) {
    process.setSourceMapsEnabled(true)
    return import(new URL(`../dist/${name}.js`, import.meta.url).href)
  }
  const { register } = await import('tsx/esm/api')
  register()
  return import(new URL(`../src/${name}.ts`, import.meta.url).href)
}

const program = process.argv[1] && realpathSync(process.argv[1])
if (!isMainThread || program === fileURLToPath(import.meta.url)) await launch(process.argv[2])
