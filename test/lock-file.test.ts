import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'

interface LockEntry {
  resolved?: string
  optionalDependencies?: Record<string, string>
}

const lock = (path: string) =>
  (JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as { packages: Record<string, LockEntry> }).packages

it.each(['../package-lock.json', '../tools/package-lock.json'])('%s names every optional platform package', (path) => {
  const packages = lock(path)
  const names = new Set(Object.keys(packages).map((key) => key.split('node_modules/').at(-1)))
  const missing = Object.values(packages).flatMap((entry) =>
    Object.keys(entry.optionalDependencies ?? {}).filter((name) => !names.has(name)),
  )
  // `npm ci` refuses a lock file that names a package which the registry does not have.
  expect(missing).toEqual([])
})

it.each(['../package-lock.json', '../tools/package-lock.json'])('%s records no download host', (path) => {
  expect(Object.values(lock(path)).filter((entry) => /^https?:/.test(entry.resolved ?? ''))).toEqual([])
})
