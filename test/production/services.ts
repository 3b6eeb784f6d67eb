import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startPostgres } from '../../src/store/embedded-postgres.ts'

/** Something that can be away for a while and comes back at the same address. */
interface Service {
  port: number
  stop(): Promise<void>
  start(): Promise<void>
  close(): Promise<void>
}

export interface PostgresService extends Service {
  url: string
}

/** An address that leads to a port of this machine, or nowhere. */
async function openDoor(to: number) {
  let port: number | undefined = to
  const door = createServer((client) => {
    if (port === undefined) return client.destroy()
    const upstream = connect(port, '127.0.0.1')
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.pipe(to)
      from.on('error', () => to.destroy())
      from.on('close', () => to.destroy())
    }
  }).listen(0, '127.0.0.1')
  await once(door, 'listening')
  return {
    port: (door.address() as AddressInfo).port,
    lead(to: number | undefined) {
      port = to
    },
    close: () => void door.close(),
  }
}

/** A Postgres that can be stopped and started at one address, as a service with a name would be. Not migrated. */
export async function startPostgresService(): Promise<PostgresService> {
  const home = mkdtempSync(join(tmpdir(), 'gestalt-postgres-'))
  let server = await startPostgres({ home })
  const door = await openDoor(Number(new URL(server.url).port))
  const url = new URL(server.url)
  url.port = String(door.port)
  return {
    url: url.href,
    port: door.port,
    async stop() {
      door.lead(undefined)
      await server.stop()
    },
    async start() {
      server = await startPostgres({ home })
      door.lead(Number(new URL(server.url).port))
    },
    async close() {
      door.close()
      await server.stop()
      for (const folder of [server.directory, home]) rmSync(folder, { recursive: true, force: true })
    },
  }
}

export const hasRedis = spawnSync('redis-server', ['--version']).status === 0

/** A Redis with these arguments, which keeps its files when it is killed. */
export async function startRedisService(
  command: readonly string[],
): Promise<Service & { freeze(): void; thaw(): void }> {
  const directory = mkdtempSync(join(tmpdir(), 'gestalt-redis-'))
  const port = await freePort()
  let server: ChildProcess | undefined
  const lives = () => server !== undefined && server.exitCode === null && server.signalCode === null
  const start = async () => {
    if (lives()) return
    const [program, ...given] = command
    const args = [...given, '--port', String(port), '--bind', '127.0.0.1', '--dir', directory]
    const fresh = spawn(program!, args, { stdio: ['ignore', 'pipe', 'ignore'] })
    server = fresh
    await new Promise<void>((done, fail) => {
      fresh.once('exit', (code) => fail(new Error(`redis-server ended with ${code}`)))
      fresh.stdout.on('data', (bytes: Buffer) => /Ready to accept connections/.test(String(bytes)) && done())
    })
  }
  const stop = async () => {
    if (!server || !lives()) return
    const ended = once(server, 'exit')
    server.kill('SIGKILL')
    await ended
  }
  await start()
  return {
    port,
    start,
    stop,
    freeze: () => void server?.kill('SIGSTOP'),
    thaw: () => void server?.kill('SIGCONT'),
    async close() {
      await stop()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
