import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Account, canEnter, databaseAccount, findBinaries, sharedFolder } from './postgres-binaries.ts'

/** Where a server of our own has its files, and who runs it. */
export interface Place {
  folder: string
  account: Account | undefined
  binaries: string
  notice?: string
}

/** A text that ties a folder outside of `home` to it, so that a new clone at an old path does not find old files. */
function homeMark(home: string): string {
  const file = join(home, 'database-mark')
  if (!existsSync(file)) writeFileSync(file, `${randomBytes(16).toString('hex')}\n`, { mode: 0o600 })
  return readFileSync(file, 'utf8')
}

/**
 * Inside `home` where the account that runs the database can enter it, else below /var/lib/gestalt, with a notice. What
 * that account must reach is made with the rights named here, however strict the umask of this process is.
 */
export function choosePlace(home: string): Place {
  const umask = process.umask(0o022)
  try {
    return choose(home)
  } finally {
    process.umask(umask)
  }
}

function choose(home: string): Place {
  const account = databaseAccount()
  const binaries = findBinaries(home, account)
  const inside = join(home, 'postgres')
  if (!account) {
    mkdirSync(inside, { recursive: true, mode: 0o700 })
    return { folder: inside, account, binaries }
  }
  if (existsSync(inside) || canEnter(home, account)) {
    mkdirSync(inside, { recursive: true, mode: 0o711 })
    if (canEnter(inside, account)) return { folder: inside, account, binaries }
  }
  const folder = join(sharedFolder, createHash('sha256').update(resolve(home)).digest('hex').slice(0, 16))
  const mark = homeMark(home)
  const markFile = join(folder, 'mark')
  let notice = `The account ${account.name}, which runs the database, cannot enter ${home}: its files are in ${folder}.`
  if (existsSync(folder) && (!existsSync(markFile) || readFileSync(markFile, 'utf8') !== mark)) {
    const aside = `${folder}.${Date.now()}.old`
    renameSync(folder, aside)
    notice += ` Those of an earlier folder of this name are kept in ${aside}.`
  }
  mkdirSync(folder, { recursive: true, mode: 0o711 })
  writeFileSync(markFile, mark, { mode: 0o600 })
  return { folder, account, binaries, notice }
}
