import { execFile } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { installation } from '../src/installation.ts'

const execute = promisify(execFile)

describe('what runs a module of ours', () => {
  let clone: string
  beforeEach(() => {
    clone = mkdtempSync(join(tmpdir(), 'gestalt-clone-'))
    chmodSync(clone, 0o755)
    cpSync(join(installation, 'bin'), join(clone, 'bin'), { recursive: true })
    writeFileSync(join(clone, 'package.json'), '{ "type": "module" }')
    symlinkSync(join(installation, 'node_modules'), join(clone, 'node_modules'))
    write(
      'jobs/says.ts',
      "import { said } from '../said.ts'\nconst text: string = said\nconsole.log(text, import.meta.url)\n",
    )
    write('said.ts', "export const said: string = 'one'\n")
  })
  afterEach(() => rmSync(clone, { recursive: true }))

  function write(path: string, text: string): void {
    mkdirSync(join(clone, 'src', path, '..'), { recursive: true })
    writeFileSync(join(clone, 'src', path), text)
  }

  const run = async (user: { uid?: number; gid?: number } = {}) => {
    const { stdout } = await execute(process.execPath, [join(clone, 'bin/launch.js'), 'jobs/says'], user)
    return stdout.trim()
  }
  const compiled = (path: string) => join(clone, 'dist', path)

  it('runs the sources as they stand, compiled', async () => {
    expect(await run()).toBe(`one file://${compiled('jobs/says.js')}`)
    write('said.ts', "export const said = 'another'\n")
    expect(await run()).toBe(`another file://${compiled('jobs/says.js')}`)
  })

  it('notices a source that is older than the one before', async () => {
    await run()
    write('said.ts', "export const said = 'before'\n")
    utimesSync(join(clone, 'src/said.ts'), 1, 1)
    expect(await run()).toMatch(/^before /)
  })

  it('puts other files beside the code, and takes away what has no source any more', async () => {
    write('said.graphql', 'type Query')
    write('old.ts', 'export {}\n')
    await run()
    expect([compiled('said.graphql'), compiled('old.js'), compiled('old.js.map')].map(existsSync)).toEqual([
      true,
      true,
      true,
    ])
    rmSync(join(clone, 'src/said.graphql'))
    rmSync(join(clone, 'src/old.ts'))
    await run()
    expect([compiled('said.graphql'), compiled('old.js'), compiled('old.js.map')].map(existsSync)).toEqual([
      false,
      false,
      false,
    ])
  })

  it('runs what several processes compile at once', async () => {
    const said = await Promise.all(Array.from({ length: 4 }, () => run()))
    expect(new Set(said)).toEqual(new Set([`one file://${compiled('jobs/says.js')}`]))
  })

  it('names lines of the sources where an error comes from', async () => {
    write('jobs/says.ts', "interface Gone {\n  from: string\n}\n\nthrow new Error('here')\n")
    await expect(run()).rejects.toThrow(/src\/jobs\/says\.ts:5:/)
  })

  it('runs the build where there are no sources', async () => {
    await run()
    rmSync(join(clone, 'src'), { recursive: true })
    expect(await run()).toBe(`one file://${compiled('jobs/says.js')}`)
  })

  it.skipIf(process.getuid?.() !== 0)('runs the sources themselves where nothing can be written', async () => {
    expect(await run({ uid: 65534, gid: 65534 })).toBe(`one file://${join(clone, 'src/jobs/says.ts')}`)
  })

  it('runs one in threads of a process, which compile it at once', async () => {
    write(
      'jobs/says.ts',
      "import { parentPort } from 'node:worker_threads'\nparentPort!.postMessage(import.meta.url)\n",
    )
    const threads = Array.from({ length: 3 }, () => new Worker(join(clone, 'bin/launch.js'), { argv: ['jobs/says'] }))
    const answer = (thread: Worker) =>
      new Promise((resolve, reject) => thread.once('message', resolve).once('error', reject))
    expect(new Set(await Promise.all(threads.map(answer)))).toEqual(new Set([`file://${compiled('jobs/says.js')}`]))
    await Promise.all(threads.map((thread) => thread.terminate()))
  })

  it('runs one by way of a link', async () => {
    symlinkSync(clone, `${clone}-link`)
    const { stdout } = await execute(process.execPath, [join(`${clone}-link`, 'bin/launch.js'), 'jobs/says'])
    rmSync(`${clone}-link`)
    expect(stdout).toMatch(/^one /)
  })
})
