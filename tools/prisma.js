// Runs the Prisma command line without its downloaded engine: `generate` needs none, `diff` talks to the npm wasm build
// of the same engine through schema-engine.js. See README.md.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const here = (path) => fileURLToPath(new URL(path, import.meta.url))
const schema = here('../prisma/schema.prisma')
const commands = {
  generate: ['generate', '--schema', schema, '--no-hints'],
  diff: ['migrate', 'diff', '--from-config-datasource', '--to-schema', schema, '--script'],
  initial: ['migrate', 'diff', '--from-empty', '--to-schema', schema, '--script'],
}

const [command = '', ...rest] = process.argv.slice(2)
const args = commands[command]
if (!args) {
  console.error(`no command '${command}'; there are: ${Object.keys(commands).join(', ')}`)
  process.exit(2)
}
const { status } = spawnSync(process.execPath, [here('node_modules/prisma/build/index.js'), ...args, ...rest], {
  cwd: here('.'),
  stdio: 'inherit',
  env: {
    ...process.env,
    PRISMA_SCHEMA_ENGINE_BINARY: here(command === 'generate' ? 'prisma.js' : 'schema-engine.js'),
    PRISMA_HIDE_UPDATE_MESSAGE: '1',
    CHECKPOINT_DISABLE: '1',
  },
})
process.exit(status ?? 1)
