import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isAlive, lockHome } from '../../src/store/home-lock.ts'

describe('the lock of a folder', () => {
  let home: string
  beforeAll(() => {
    home = mkdtempSync(join(tmpdir(), 'gestalt-lock-'))
  })
  afterAll(() => rmSync(home, { recursive: true, force: true }))

  it('is held once, until it is given back', () => {
    const release = lockHome(home)
    expect(() => lockHome(home)).toThrow(
      expect.objectContaining({ code: 'conflict', message: `another gestalt (pid ${process.pid}) uses ${home}` }),
    )
    release()
    expect(existsSync(join(home, 'lock'))).toBe(false)
    lockHome(home)()
  })

  it.each([
    ['a dead process', '4194000\n'],
    ['a process whose number was given to another', `${process.ppid}\nsome-boot 1\n`],
    ['nobody', ''],
  ])('of %s is taken over', (_whose, text) => {
    writeFileSync(join(home, 'lock'), text)
    lockHome(home)()
  })

  it('of a live process without a known start is respected', () => {
    writeFileSync(join(home, 'lock'), `${process.ppid}\n\n`)
    expect(() => lockHome(home)).toThrow(`another gestalt (pid ${process.ppid})`)
    rmSync(join(home, 'lock'))
  })

  it('is left alone by who gives back after another has taken it', () => {
    const release = lockHome(home)
    writeFileSync(join(home, 'lock'), `${process.ppid}\n\n`)
    release()
    expect(existsSync(join(home, 'lock'))).toBe(true)
    rmSync(join(home, 'lock'))
  })

  it('knows who is alive', () => {
    expect(isAlive(process.pid)).toBe(true)
    expect(isAlive(4_194_000)).toBe(false)
  })

  it('needs a folder that can be written, and says so', () => {
    const file = join(home, 'file')
    writeFileSync(file, '')
    expect(() => lockHome(file)).toThrow(
      expect.objectContaining({ code: 'misconfigured', cure: expect.stringContaining('GESTALT_HOME') }),
    )
  })
})
