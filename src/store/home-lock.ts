import { execFileSync } from 'node:child_process'
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Conflict, type GestaltError, Misconfigured, NoRoom } from '../errors.ts'

/** When a process began, as a text that two processes with the same number do not share; '' where unknown. */
function startOf(pid: number): string {
  try {
    // The name, in brackets, may hold spaces; the 20th field after it is the start in ticks since boot.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const ticks = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${ticks}`
  } catch {
    return ''
  }
}

/** Whether such a process runs. One that belongs to somebody else counts, one that only waits to be reaped does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2)[0] !== 'Z'
  } catch {
    return true
  }
}

/** The command line of a process, '' where there is none. */
export function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    try {
      return execFileSync('ps', ['-p', String(pid), '-o', 'command='], {
        stdio: ['ignore', 'pipe', 'ignore'],
      }).toString()
    } catch {
      return ''
    }
  }
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** The process that holds a lock with this text, undefined where it is gone. */
function holderOf(text: string): number | undefined {
  const [line = '', start = ''] = text.split('\n')
  const pid = Number(line)
  if (!Number.isInteger(pid) || pid <= 0 || !isAlive(pid)) return undefined
  // The number may have been given to another process since.
  return start === '' || startOf(pid) === '' || startOf(pid) === start ? pid : undefined
}

/** Removes the lock of a dead process, unless another start was quicker: then its lock is put back. */
function removeStale(file: string, stale: string): void {
  const aside = `${file}.${process.pid}.stale`
  try {
    renameSync(file, aside)
    if (read(aside) !== stale) linkSync(aside, file)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'EEXIST') throw error
  } finally {
    rmSync(aside, { force: true })
  }
}

function unwritable(home: string, cause: NodeJS.ErrnoException): GestaltError {
  if (cause.code === 'ENOSPC' || cause.code === 'EDQUOT')
    return new NoRoom(`there is no room in ${home}`, 'free some disk space and start again', { cause })
  return new Misconfigured(
    `${home} cannot be written: ${cause.message}`,
    'give this account the right to write there, or choose another folder with GESTALT_HOME',
    { cause },
  )
}

/**
 * Takes the folder `home` for this process; the answer gives it back. Throws Conflict while a live process has it. The
 * lock of a process that died is taken over.
 */
export function lockHome(home: string): () => void {
  const file = join(home, 'lock')
  const own = `${process.pid}\n${startOf(process.pid)}\n`
  const written = `${file}.${process.pid}`
  try {
    mkdirSync(home, { recursive: true, mode: 0o700 })
    writeFileSync(written, own)
  } catch (error) {
    throw unwritable(home, error as NodeJS.ErrnoException)
  }
  try {
    for (;;) {
      try {
        linkSync(written, file) // all of the text at once, and only where there is no lock
        break
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      }
      const text = read(file)
      if (text === undefined) continue
      const pid = holderOf(text)
      if (pid !== undefined)
        throw new Conflict(
          `another gestalt (pid ${pid}) uses ${home}`,
          `stop it (kill ${pid}), or choose another folder with GESTALT_HOME`,
        )
      removeStale(file, text)
    }
  } finally {
    rmSync(written, { force: true })
  }
  const release = () => {
    if (read(file) === own) rmSync(file, { force: true })
    process.off('exit', release)
  }
  process.on('exit', release)
  return release
}
