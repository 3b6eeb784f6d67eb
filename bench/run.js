#!/usr/bin/env node
// npm run bench -- NAME: runs bench/NAME.ts. Each prints its result as JSON on the last line.
import { readdirSync } from 'node:fs'
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
await import(new URL(`${name}.ts`, here).href)
