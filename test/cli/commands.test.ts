import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import pg from 'pg'
import { afterAll, describe, expect, it } from 'vitest'
import { testDatabase } from '../postgres.ts'

const clone = resolve(import.meta.dirname, '../..')
const folder = mkdtempSync(join(tmpdir(), 'gestalt-cli-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

interface Said {
  code: number | null
  out: string
  error: string
}

function gestalt(args: readonly string[], environment: Record<string, string> = {}, input = ''): Promise<Said> {
  const env = { PATH: process.env.PATH, GESTALT_HOME: join(folder, 'home'), ...environment }
  const child = spawn(process.execPath, [join(clone, 'bin/gestalt.js'), ...args], { env, cwd: folder })
  let [out, error] = ['', '']
  child.stdout.on('data', (bytes: Buffer) => (out += bytes))
  child.stderr.on('data', (bytes: Buffer) => (error += bytes))
  child.stdin.end(input)
  return new Promise((done) => child.once('close', (code) => done({ code, out, error })))
}

const recipe = join(clone, 'recipes/npid-quick.json')
const lastLine = (text: string): unknown => JSON.parse(text.trim().split('\n').at(-1)!)

describe('gestalt', () => {
  it('shows its commands, with examples and exit codes', async () => {
    const { code, out } = await gestalt(['--help'])
    expect(code).toBe(0)
    for (const word of [
      'up',
      'api',
      'worker',
      'migrate',
      'demo',
      'plan',
      'submit',
      'watch',
      'runs',
      'dataset',
      'doctor',
    ])
      expect(out).toMatch(new RegExp(`^ {2}${word}\\b`, 'm'))
    expect(out).toMatch(/Examples:[\s\S]*Exit codes: 0 done, 1 failed, 2 usage/)
  })

  it('refuses an unknown command with the nearest one', async () => {
    const { code, error } = await gestalt(['submti', 'x.json'])
    expect(code).toBe(2)
    expect(error).toMatch(/unknown command 'submti'[\s\S]*Did you mean submit\?/)
  })

  it('ends with 2 wherever a command line is wrong, and with 0 for help', async () => {
    const wrong = [['plan'], ['dataset'], ['up', 'extra'], ['demo', '--bogus'], ['runs', '--first', 'x']]
    for (const args of [...wrong, ['runs', '--url', 'nonsense']])
      expect({ args, code: (await gestalt(args)).code }).toEqual({ args, code: 2 })
    expect(await gestalt(['submit', '--help'])).toMatchObject({ code: 0, out: expect.stringMatching(/--json/) })
  })

  it('refuses a wrong setting before it does anything', async () => {
    const { code, error } = await gestalt(['runs'], { GESTALT_PORT: 'eighty' })
    expect(code).toBe(1)
    expect(error).toMatch(/GESTALT_PORT: 'eighty' is not a whole number/)
  })

  it('says how to start a server where none answers', async () => {
    for (const args of [['runs'], ['watch', 'a-run'], ['cancel', 'a-run'], ['submit', recipe]]) {
      const { code, error } = await gestalt([...args, '--url', 'http://127.0.0.1:9'])
      expect({ args, code }).toEqual({ args, code: 4 })
      expect(error).toMatch(/no server answers at http:\/\/127\.0\.0\.1:9\n.*gestalt up/)
    }
  })

  it('migrates, and lets a role of the dashboards read', async () => {
    const database = await testDatabase()
    const role = `reader_${process.pid}`
    const settings = { DATABASE_URL: database.url }
    const { code, out } = await gestalt(['migrate', '--grafana-role', role], settings)
    expect({ code, out }).toEqual({
      code: 0,
      out: `nothing to apply\nthe role ${role} may read the views of the dashboards\n`,
    })
    const refused = await gestalt(['migrate', '--grafana-role', 'No Role'], settings)
    expect(refused.error).toMatch(/'No Role' is no name for a role/)
    const client = new pg.Client(database.url)
    await client.connect()
    await client.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
    await client.end()
    await database.drop()
  })

  it('names the missing DATABASE_URL', async () => {
    for (const command of ['migrate', 'api', 'worker']) {
      const { code, error } = await gestalt([command])
      expect({ command, code }).toEqual({ command, code: 1 })
      expect(error).toMatch(/DATABASE_URL is not set/)
    }
  })
})

describe('gestalt plan', () => {
  it('plans a recipe without a server', async () => {
    const { code, out } = await gestalt(['plan', recipe, '--json'])
    expect(code).toBe(0)
    expect(lastLine(out)).toMatchObject({ runs: 1, steps: 936, images: { train: 10_000, test: 2_000 } })
  })

  it('plans several files, each with its plan or its error, and ends as the wrong one would', async () => {
    const { code, out } = await gestalt(['plan', recipe, 'nowhere.json', '--json'])
    expect(code).toBe(3)
    expect(lastLine(out)).toMatchObject([
      { file: recipe, weights: 97_264, taps: { input: [28, 28, 1], norm1: [14, 14, 16], flat: [576] } },
      { file: 'nowhere.json', error: { code: 'not-found', cure: expect.stringMatching(/recipes/) } },
    ])
    const asking = { ...JSON.parse(readFileSync(recipe, 'utf8')), resources: { gpuMemory: 2 ** 33, cores: 4 } }
    const words = await gestalt(['plan', recipe, '-'], {}, JSON.stringify(asking))
    expect(words.code).toBe(0)
    expect(words.out.match(/asks for.*/g)).toEqual(['asks for         a GPU with 8.0 GiB left, 4 cores'])
    expect(words.out.match(/taps {13}input 28x28x1, conv1 28x28x16,/g)).toHaveLength(2)
  })

  it('names every fault of a definition', async () => {
    const text = readFileSync(recipe, 'utf8').replace('"epochs": 12', '"epochs": "12"').replace('"npid"', '"npdi"')
    const { code, error } = await gestalt(['plan', '-'], {}, text)
    expect(code).toBe(3)
    expect(error).toMatch(
      /2 faults\n {2}\/method\/name {2}no method 'npdi'.*\n {2}\/training\/epochs {2}is the text "12"/,
    )
  })

  it('says what is wrong with a file that is missing, and with one that is no JSON', async () => {
    expect(await gestalt(['plan', 'nowhere.json'])).toMatchObject({
      code: 3,
      error: expect.stringMatching(/cannot read nowhere\.json/),
    })
    expect(await gestalt(['plan', '-'], {}, '{')).toMatchObject({
      code: 3,
      error: expect.stringMatching(/is not JSON/),
    })
  })
})

describe('gestalt dataset add', () => {
  const shipped = join(clone, 'datasets/fashion-mnist-12k')

  it('adds files from a folder once they are verified', async () => {
    const { code, out } = await gestalt(['dataset', 'add', 'fashion-mnist-12k', '--from', shipped, '--json'])
    expect(code).toBe(0)
    expect(lastLine(out)).toEqual({ dataset: 'fashion-mnist-12k', files: 4 })
  })

  it('adds files from a URL', async () => {
    const server = createServer((request, response) => response.end(readFileSync(join(shipped, request.url!))))
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    const from = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
    const { code } = await gestalt(['dataset', 'add', 'fashion-mnist-12k', '--from', from])
    server.close()
    expect(code).toBe(0)
  })

  it('refuses a file that is not the published one, and keeps none of them', async () => {
    const altered = join(folder, 'altered')
    cpSync(shipped, altered, { recursive: true })
    writeFileSync(join(altered, 't10k-labels-idx1-ubyte.gz'), readFileSync(join(shipped, 'train-labels-idx1-ubyte.gz')))
    const home = join(folder, 'other-home')
    const { code, error } = await gestalt(['dataset', 'add', 'fashion-mnist-12k', '--from', altered], {
      GESTALT_HOME: home,
    })
    expect(code).toBe(1)
    expect(error).toMatch(/t10k-labels-idx1-ubyte\.gz unpacks to 10008 bytes instead of 2008/)
    expect(() => readFileSync(join(home, 'objects'))).toThrow(/ENOENT/)
  })

  it('names the datasets that it knows where there are no images to make one of', async () => {
    const { code, error } = await gestalt(['dataset', 'add', 'pets', '--from', shipped])
    expect(code).toBe(3)
    expect(error).toMatch(/there are no images in .*fashion-mnist-12k\n.*fashion-mnist, fashion-mnist-12k/)
  })
})

describe('gestalt recipes', () => {
  it('names what there is where a recipe is not there, or none is named', async () => {
    const wrong = await gestalt(['recipes', 'npid-quik'])
    expect([wrong.code, wrong.error]).toEqual([
      3,
      expect.stringMatching(/no recipe 'npid-quik'\n.*did you mean 'npid-quick'/),
    ])
    const none = await gestalt(['recipes', '--json'])
    expect(none.code).toBe(3)
    expect(lastLine(none.out)).toMatchObject({
      error: { cure: expect.stringMatching(/--quick; there are: .*npid-quick/) },
    })
  })

  it('refuses seeds that are none', async () => {
    const { code, error } = await gestalt(['recipes', '--quick', '--seeds', '7,x'])
    expect(code).toBe(2)
    expect(error).toMatch(/give whole numbers/)
  })
})
