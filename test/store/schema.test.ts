import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { testDatabase } from '../postgres.ts'

const tools = fileURLToPath(new URL('../../tools', import.meta.url))
const hasTools = existsSync(`${tools}/node_modules/prisma`)

describe('the schema', () => {
  it.skipIf(!hasTools)('is what the migrations make: no drift', async () => {
    const database = await testDatabase()
    const env = { ...process.env, DATABASE_URL: database.url }
    const { stdout } = await promisify(execFile)(process.execPath, ['prisma.js', 'diff'], { cwd: tools, env })
    await database.drop()
    expect(stdout.trim()).toBe('-- This is an empty migration.')
  })

  it('is what the committed client was generated from', () => {
    const models = (text: string) => [...text.matchAll(/^model (\w+) \{/gm)].map(([, name]) => name!).sort()
    const schema = readFileSync(new URL('../../prisma/schema.prisma', import.meta.url), 'utf8')
    const folder = new URL('../../src/store/generated', import.meta.url)
    const generated = readFileSync(new URL(`${folder}/internal/class.ts`), 'utf8')
    expect(
      readdirSync(new URL(`${folder}/models`))
        .map((name) => name.replace('.ts', ''))
        .sort(),
    ).toEqual(models(schema))
    const inline = /"inlineSchema": (".*?[^\\]"),?\n/.exec(generated)![1]!
    expect(JSON.parse(inline)).toBe(schema)
  })
})
