import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from '../eventually.ts'
import { freePort } from './services.ts'

const versions = '/usr/lib/postgresql'

/** Where the newest PostgreSQL of Debian's packages has its programs, pg_dump among them. */
export const debianPostgres = existsSync(versions)
  ? readdirSync(versions)
      .sort((a, b) => Number(b) - Number(a))
      .map((version) => join(versions, version, 'bin'))
      .find((bin) => existsSync(join(bin, 'initdb')) && existsSync(join(bin, 'pg_dump')))
  : undefined

/** The server refuses to be run by root. */
function account(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const id = (kind: string) => Number(String(spawnSync('id', [kind, 'postgres']).stdout))
  return { uid: id('-u'), gid: id('-g') }
}

/** A server of Debian's packages with an empty database, which trusts whoever reaches it. */
export async function startDebianPostgres() {
  const [folder, port, owner] = [mkdtempSync(join(tmpdir(), 'gestalt-debian-')), await freePort(), account()]
  if (owner.uid !== undefined && owner.gid !== undefined) chownSync(folder, owner.uid, owner.gid)
  const data = join(folder, 'data')
  const program = (name: string) => join(debianPostgres!, name)
  const args = ['-D', data, '-U', 'gestalt', '-A', 'trust', '--locale=C.UTF-8']
  const made = spawnSync(program('initdb'), args, { ...owner, cwd: folder, encoding: 'utf8' })
  if (made.status !== 0) throw new Error(`initdb: ${made.stderr}`)
  const settings = ['-c', 'listen_addresses=127.0.0.1', '-c', `unix_socket_directories=`, '-p', String(port)]
  const server = spawn(program('postgres'), ['-D', data, ...settings], { ...owner, cwd: folder, stdio: 'ignore' })
  const url = (database: string) => `postgresql://gestalt@127.0.0.1:${port}/${database}`
  /** One of PostgreSQL's own programs. */
  const run = (name: string, ...given: string[]) => {
    const { status, stderr } = spawnSync(program(name), given, { encoding: 'utf8' })
    if (status !== 0) throw new Error(`${name}: ${stderr}`)
  }
  await eventually(() => run('pg_isready', '-d', url('postgres')))
  return {
    url,
    run,
    async stop() {
      const ended = once(server, 'exit')
      server.kill('SIGQUIT')
      await ended
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
