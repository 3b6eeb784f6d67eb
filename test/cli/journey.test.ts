import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const bin = resolve(import.meta.dirname, '../../bin/gestalt.js')
const folder = mkdtempSync(join(tmpdir(), 'gestalt-journey-'))
const home = join(folder, 'home')
const definition = join(folder, 'tiny.json')

/** All that any of the processes said. */
const said: string[] = []

interface Running {
  process: ChildProcess
  /** Standard output and error so far. */
  said(): string
  ended: Promise<number | null>
}

function start(args: readonly string[], environment: Record<string, string> = {}): Running {
  const env = { PATH: process.env.PATH, GESTALT_HOME: home, GESTALT_PORT: '0', ...environment }
  const child = spawn(process.execPath, [bin, ...args], { env, cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (bytes: Buffer) => {
      text += bytes
      said.push(String(bytes))
    })
  const ended = new Promise<number | null>((done) => child.once('close', done))
  return { process: child, said: () => text, ended }
}

async function run(args: readonly string[], environment: Record<string, string> = {}) {
  const started = start(args, environment)
  return { code: await started.ended, said: started.said() }
}

async function up(): Promise<Running & { url: string }> {
  const started = start(['up'])
  for (;;) {
    const url = started.said().match(/serving at (\S+)/)?.[1]
    if (url) return { ...started, url }
    const ended = await Promise.race([started.ended, new Promise<'waiting'>((done) => setTimeout(done, 50, 'waiting'))])
    if (ended !== 'waiting') throw new Error(`'gestalt up' ended with ${ended}: ${started.said()}`)
  }
}

const json = (text: string) => JSON.parse(text.trim().split('\n').at(-1)!)

describe('everything on one machine', () => {
  let service: Running & { url: string }

  beforeAll(async () => {
    const tiny = {
      version: 1,
      name: 'tiny',
      dataset: { name: 'shapes', images: 64, testImages: 16 },
      net: { name: 'small', widths: [4] },
      method: { name: 'npid', dimension: 8 },
      training: { epochs: 2, batchSize: 16 },
      evaluations: [{ name: 'nearest-neighbours', k: [1, 5] }],
    }
    writeFileSync(definition, JSON.stringify(tiny))
    service = await up()
  })
  afterAll(async () => {
    service.process.kill('SIGTERM')
    await service.ended
    // As root the database's files are elsewhere, and the output says where.
    const elsewhere = said.join('').match(/(?<=its files are in )\S+(?=\.\s)/g) ?? []
    for (const each of [folder, ...elsewhere]) rmSync(each, { recursive: true, force: true })
  })

  it('posts an experiment, follows its run and lists it', async () => {
    const submitted = await run(['submit', definition, '--watch', '--json', '--url', service.url])
    expect(submitted, submitted.said).toMatchObject({ code: 0 })
    const ended = json(submitted.said) as { id: string; state: string }
    expect(ended.state).toBe('succeeded')
    const listed = await run(['runs', '--json', '--url', service.url, '--state', 'succeeded'])
    expect((json(listed.said) as { id: string }[]).map((each) => each.id)).toContain(ended.id)
    const words = await run(['runs', '--url', service.url])
    expect(words.said).toMatch(/^id +name +state +done +loss +posted\n[0-9a-f-]{36} +tiny +succeeded +100 %/)
    const watched = await run(['watch', ended.id, '--url', service.url])
    expect(watched.said).toMatch(new RegExp(`run ${ended.id} succeeded`))
    const cancelled = await run(['cancel', ended.id, '--url', service.url])
    expect(cancelled).toMatchObject({ code: 3, said: expect.stringMatching(/succeeded/) })
  })

  it('says which run there is not', async () => {
    const unknown = await run(['watch', '00000000-0000-7000-8000-000000000000', '--url', service.url])
    expect(unknown, unknown.said).toMatchObject({ code: 3, said: expect.stringMatching(/no run/) })
  })

  it('refuses a second start on the same folder', async () => {
    const second = await run(['up'])
    expect(second).toMatchObject({ code: 3, said: expect.stringMatching(/another gestalt \(pid \d+\) uses/) })
  })

  it('says how to get by a port that is in use', async () => {
    const other = await run(['up'], { GESTALT_HOME: join(folder, 'second'), GESTALT_PORT: new URL(service.url).port })
    expect(other).toMatchObject({ code: 4, said: expect.stringMatching(/port \d+ .* in use\n.*GESTALT_PORT/) })
  })

  it('stops when told to, and finds the earlier experiments when started again', async () => {
    service.process.kill('SIGINT')
    expect(await service.ended).toBe(0)
    service = await up()
    const listed = await run(['runs', '--json', '--url', service.url])
    expect((json(listed.said) as { name: string }[]).map((each) => each.name)).toEqual(['tiny'])
    expect(readFileSync(join(home, 'logs/api.log'), 'utf8')).toMatch(/serving at/)
  })
})
