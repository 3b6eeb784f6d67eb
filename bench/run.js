#!/usr/bin/env node
// npm run bench -- NAME: runs bench/NAME.ts. Each prints its result as JSON on the last line.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { register } from 'tsx/esm/api'

const here = new URL('.', import.meta.url)
const names = readdirSync(here)
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.slice(0, -3))
const [name] = process.argv.slice(2)
if (!name || !names.includes(name)) {
  console.error(`${name ? `no bench '${name}'` : 'name a bench'}; there are: ${names.join(', ')}`)
  process.exit(2)
}
register()
const { childEnvironment } = await import(new URL('../src/config.ts', here).href)
// In a process with the memory settings of those that train, which must stand before it starts.
const onGpu = ['gpu', 'webgpu'].includes(name)
const env = { ...process.env, ...childEnvironment(availableParallelism(), { onGpu }) }
const script = fileURLToPath(new URL(`${name}.ts`, here))
const { status } = spawnSync(process.execPath, ['--import', 'tsx', script, ...process.argv.slice(2)], {
  env,
  stdio: 'inherit',
})
process.exit(status ?? 1)
