import { type ChildProcess, spawn } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterEach, describe, expect, it } from 'vitest'
import { type EmbeddedPostgres, startPostgres } from '../../src/store/embedded-postgres.ts'
import { isAlive } from '../../src/store/home-lock.ts'
import { eventually } from '../eventually.ts'
import { canMount, smallDisk } from '../tmpfs.ts'

const isRoot = process.getuid?.() === 0
const cleanUps: (() => unknown)[] = []

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

function newHome(): string {
  const home = mkdtempSync(join(tmpdir(), 'gestalt-home-'))
  cleanUps.push(() => rmSync(home, { recursive: true, force: true }))
  return home
}

async function start(home: string): Promise<EmbeddedPostgres> {
  const server = await startPostgres({ home })
  cleanUps.push(async () => {
    await server.stop()
    if (!server.directory.startsWith(home)) rmSync(server.directory, { recursive: true, force: true })
  })
  return server
}

async function ask<T>(url: string, statement: string): Promise<T[]> {
  const client = new pg.Client(url)
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(statement)).rows
  } finally {
    await client.end()
  }
}

const program = `
  import { startPostgres } from '${new URL('../../src/store/embedded-postgres.ts', import.meta.url)}'
  const server = await startPostgres({ home: process.argv[1] }).catch((error) => error)
  console.log(JSON.stringify(server))
  if (server.url) setInterval(() => {}, 1000)`

interface Told {
  url?: string
  directory?: string
  notice?: string
  code?: string
}

/** Another process that starts the server on the folder and keeps it. */
async function startElsewhere(
  home: string,
  options: { uid?: number; gid?: number; env?: NodeJS.ProcessEnv } = {},
): Promise<{ child: ChildProcess; told: Told }> {
  const args = ['--import', 'tsx', '--input-type=module', '-e', program, home]
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: new URL('../..', import.meta.url),
    ...options,
  })
  cleanUps.push(() => child.kill('SIGKILL'))
  let text = ''
  for await (const bytes of child.stdout!) {
    text += bytes
    if (text.endsWith('\n')) break
  }
  const told = JSON.parse(text) as Told
  if (told.directory) cleanUps.push(() => rmSync(told.directory!, { recursive: true, force: true }))
  return { child, told }
}

/** The process number of the server in a folder. */
function serverOf(directory: string): number {
  return Number(readFileSync(join(directory, 'data/postmaster.pid'), 'utf8').split('\n')[0])
}

describe('the embedded PostgreSQL', () => {
  it('starts in an empty folder, keeps what it is given, and ends with stop', async () => {
    const home = newHome()
    const first = await start(home)
    await ask(first.url, 'CREATE TABLE kept (n int)')
    const settings = await ask<{ name: string; setting: string }>(
      first.url,
      `SELECT name, setting FROM pg_settings WHERE name IN
        ('listen_addresses', 'unix_socket_directories', 'fsync', 'synchronous_commit', 'password_encryption')`,
    )
    expect(Object.fromEntries(settings.map(({ name, setting }) => [name, setting]))).toEqual({
      fsync: 'on',
      listen_addresses: '127.0.0.1',
      password_encryption: 'scram-sha-256',
      synchronous_commit: 'on',
      unix_socket_directories: '',
    })
    expect(statSync(join(first.directory, 'password')).mode & 0o777).toBe(0o600)
    const wrong = first.url.replace(/:[^:@]*@/, ':wrong@')
    await expect(ask(wrong, 'SELECT 1')).rejects.toThrow(/password authentication failed/)
    await first.stop()
    await first.exited
    expect(existsSync(join(home, 'lock'))).toBe(false)
    const second = await start(home)
    expect(await ask(second.url, 'SELECT count(*)::int AS n FROM kept')).toEqual([{ n: 0 }])
  })

  it('is refused to a second process on the same folder', async () => {
    const home = newHome()
    await start(home)
    await expect(startPostgres({ home })).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining(`pid ${process.pid}`),
      cure: expect.stringContaining('GESTALT_HOME'),
    })
    const { told } = await startElsewhere(home)
    expect(told).toMatchObject({ code: 'conflict' })
  })

  it('ends when the process that started it is killed', async () => {
    const { child, told } = await startElsewhere(newHome())
    const server = serverOf(told.directory!)
    child.kill('SIGKILL')
    await eventually(() => expect(isAlive(server)).toBe(false))
  })

  it.skipIf(process.platform !== 'linux')(
    'that was left behind all the same is stopped by the next start',
    async () => {
      const home = newHome()
      const { child, told } = await startElsewhere(home)
      const left = serverOf(told.directory!)
      const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')
        .trim()
        .split(' ')
        .map(Number)
      for (const pid of children)
        if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'sh') process.kill(pid, 'SIGKILL')
      child.kill('SIGKILL')
      await new Promise((done) => child.once('exit', done))
      expect(isAlive(left)).toBe(true)
      const server = await start(home)
      expect(isAlive(left)).toBe(false)
      expect(await ask(server.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
    },
  )

  it('has a process group of its own, tells when it has ended, and copes with the pid file of another process', async () => {
    const home = newHome()
    const first = await start(home)
    const pid = serverOf(first.directory)
    const group = (id: number) => readFileSync(`/proc/${id}/stat`, 'utf8').split(') ')[1]!.split(' ')[2]
    if (process.platform === 'linux') expect(group(pid)).not.toBe(group(process.pid))
    process.kill(pid, 'SIGINT')
    await first.exited
    await first.stop()
    writeFileSync(join(first.directory, 'data/postmaster.pid'), `${process.pid}\n${first.directory}/data\n1\n5432\n`)
    const second = await start(home)
    expect(await ask(second.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
  })

  it('does not listen to the PG variables of who starts it', async () => {
    const env = {
      ...process.env,
      PGPORT: '1',
      PGDATA: '/nowhere',
      PGUSER: 'x',
      PGSSLMODE: 'require',
      PGTZ: 'Asia/Tokyo',
    }
    const { told } = await startElsewhere(newHome(), { env })
    expect(await ask(told.url!, "SELECT current_setting('fsync') AS fsync")).toEqual([{ fsync: 'on' }])
  })

  it.skipIf(!isRoot)('says where its files are when its account cannot enter the folder', async () => {
    const home = newHome()
    chmodSync(home, 0o700)
    const server = await start(home)
    expect(server.directory).toMatch(/^\/var\/lib\/gestalt\/[0-9a-f]{16}$/)
    expect(server.notice).toContain(server.directory)
    await ask(server.url, 'CREATE TABLE kept (n int)')
    await server.stop()
    // A new folder of the same name is another installation.
    rmSync(home, { recursive: true })
    mkdirSync(home, { mode: 0o700 })
    const other = await start(home)
    expect(other.directory).toBe(server.directory)
    const aside = /kept in (\S+)\.$/.exec(other.notice!)![1]!
    cleanUps.push(() => rmSync(aside, { recursive: true }))
    expect(await ask(other.url, "SELECT to_regclass('kept') AS kept")).toEqual([{ kept: null }])
  })

  it.skipIf(!isRoot)('starts under a umask that leaves others no rights, and keeps that umask', async () => {
    const before = process.umask(0o077)
    try {
      const server = await start(newHome())
      expect(await ask(server.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
      expect(process.umask()).toBe(0o077)
      expect(statSync(server.directory).mode & 0o777).toBe(0o711)
    } finally {
      process.umask(before)
    }
  })

  it.skipIf(!isRoot)('keeps its files in the folder where its account can enter it', async () => {
    const home = newHome()
    chmodSync(home, 0o755)
    const server = await start(home)
    expect(server.directory).toBe(join(home, 'postgres'))
    expect(server.notice).toBeUndefined()
    expect(statSync(join(server.directory, 'data')).uid).not.toBe(0)
  })

  it.skipIf(!isRoot)('runs for an ordinary user in a folder of mode 0700', async () => {
    const [uid, gid] = [65534, 65534]
    const home = newHome()
    chmodSync(home, 0o700)
    chownSync(home, uid, gid)
    const { told, child } = await startElsewhere(home, {
      uid,
      gid,
      env: { PATH: process.env.PATH, HOME: home, TMPDIR: home },
    })
    expect(told).toMatchObject({ directory: join(home, 'postgres') })
    expect(await ask(told.url!, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
    expect(statSync(join(home, 'postgres/data')).uid).toBe(uid)
    const server = serverOf(told.directory!)
    child.kill('SIGKILL')
    process.kill(server, 'SIGINT')
    await eventually(() => expect(isAlive(server)).toBe(false))
  })

  it.skipIf(!canMount)('says that the disk is full', async () => {
    const disk = smallDisk(16)
    cleanUps.push(disk.remove)
    chmodSync(disk.folder, 0o755)
    await expect(startPostgres({ home: disk.folder })).rejects.toMatchObject({
      code: 'no-room',
      cure: expect.stringContaining('disk space'),
    })
  })
})
