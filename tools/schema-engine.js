#!/usr/bin/env node
// Stands in for Prisma's native schema engine: the same JSON-RPC over standard input and output, answered by the wasm
// build that npm carries. Only what `prisma migrate diff` asks for is served; nothing with a shadow database works.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { PrismaPg } from '@prisma/adapter-pg'
import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils'

const argv = process.argv.slice(2)

function option(...names) {
  const at = argv.findIndex((word) => names.includes(word))
  return at < 0 ? undefined : argv[at + 1]
}

/** The wasm module is instantiated by hand: Node 20 cannot import it. */
async function loadEngine() {
  const glue = await import('@prisma/schema-engine-wasm/schema_engine_bg')
  const path = createRequire(import.meta.url).resolve('@prisma/schema-engine-wasm/schema_engine_bg')
  const bytes = readFileSync(path.replace(/\.js$/, '.wasm'))
  const { instance } = await WebAssembly.instantiate(bytes, { './schema_engine_bg.js': glue })
  globalThis.PRISMA_WASM_PANIC_REGISTRY = { set_message: (message) => console.error(message) }
  glue.__wbg_set_wasm(instance.exports)
  instance.exports.__wbindgen_start()
  return glue
}

/** The adapter does not know the catalog type "char" (oid 18), and introspection needs it (prisma/orm#27403). */
function teachCharacters(adapter) {
  const characters = new WeakMap()
  const performIO = adapter.performIO.bind(adapter)
  const queryRaw = adapter.queryRaw.bind(adapter)
  adapter.performIO = async (query) => {
    const result = await performIO(query)
    const places = result.fields.flatMap((field, place) => (field.dataTypeID === 18 ? [place] : []))
    for (const place of places) result.fields[place].dataTypeID = 25
    characters.set(result.rows, places)
    return result
  }
  adapter.queryRaw = async (query) => {
    const result = await queryRaw(query)
    for (const place of characters.get(result.rows) ?? []) result.columnTypes[place] = 6 // Character
    return result
  }
  return adapter
}

class Adapter extends PrismaPg {
  async connect() {
    return teachCharacters(await super.connect())
  }
}

function datamodels() {
  const given = argv.flatMap((word, at) => (word === '--datamodels' || word === '-d' ? [argv[at + 1]] : []))
  return given.flatMap((text) => {
    if (!text.startsWith('{')) return [[text, readFileSync(text, 'utf8')]]
    return JSON.parse(text).files.map((file) => [file.path, file.content])
  })
}

const glue = await loadEngine()
if (argv.includes('--version')) {
  console.log(`schema-engine-cli ${glue.version()}`)
  process.exit(0)
}
const datasource = option('--datasource')
const connectionString = (datasource && JSON.parse(datasource).url) || process.env.DATABASE_URL
const files = datamodels()
const engine = await glue.SchemaEngine.new(
  { datamodels: files.length > 0 ? files : undefined },
  () => {},
  bindMigrationAwareSqlAdapterFactory(new Adapter({ connectionString })),
)

const answer = (id, body) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id, ...body })}\n`)

for await (const line of createInterface({ input: process.stdin })) {
  if (!line.trim()) continue
  const { id, method, params } = JSON.parse(line)
  try {
    const result = method === 'getDatabaseVersion' ? await engine.version(params) : await engine[method](params)
    if (method === 'diff' && result?.stdout != null)
      answer('print', { method: 'print', params: { content: result.stdout } })
    answer(id, { result: result ?? {} })
  } catch (error) {
    const message = String(error?.message ?? error)
    const data = { is_panic: false, message, meta: error?.meta ?? {}, error_code: error?.code }
    answer(id, { error: { code: 4466, message, data } })
  }
}
process.exit(0)
