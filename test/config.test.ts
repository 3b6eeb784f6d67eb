import { mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readConfig } from '../src/config.ts'

const home = mkdtempSync(join(tmpdir(), 'gestalt-config-'))
const read = (environment: Record<string, string> = {}) => readConfig({ GESTALT_HOME: home, ...environment })

describe('the settings', () => {
  it('listens on this machine only by default', () => {
    expect(read()).toMatchObject({ host: '127.0.0.1', port: 4000, token: undefined, s3: undefined, engine: 'auto' })
  })

  it.each([
    ['GESTALT_PORT', '80a', /'80a' is not a whole number from 0 to 65535/],
    ['GESTALT_PORT', '65536', /not a whole number/],
    ['GESTALT_ENGINE', 'cuda', /'cuda' is not one of: auto, wasm, cpu/],
    ['GESTALT_TOKEN', 'short', /has 5 characters; use at least 16/],
    ['GESTALT_HOST', '0.0.0.0', /reachable from other machines: set GESTALT_TOKEN/],
    ['DATABASE_URL', 'mysql://db', /starts with postgresql:\/\//],
    ['REDIS_URL', 'http://cache', /starts with redis:\/\//],
    ['S3_BUCKET', 'bucket', /without S3_ENDPOINT/],
    ['S3_ENDPOINT', 'http://store:9000', /S3_SECRET_KEY: is missing/],
  ])('refuses %s=%s and says what would have been right', (name, value, words) => {
    expect(() => read({ [name]: value })).toThrow(words)
  })

  it('names every fault at once', () => {
    expect(() => read({ GESTALT_PORT: 'x', GESTALT_ENGINE: 'y' })).toThrow(/2 faults.*GESTALT_PORT.*GESTALT_ENGINE/)
  })

  it('never repeats a URL that may hold a password', () => {
    expect(() => read({ DATABASE_URL: 'mysql://me:secret@db' })).toThrow(/^(?!.*secret)/)
  })

  it('accepts another host together with a token', () => {
    expect(read({ GESTALT_HOST: '0.0.0.0', GESTALT_TOKEN: 'x'.repeat(16) }).host).toBe('0.0.0.0')
  })

  it('reads an S3 endpoint', () => {
    const keys = { S3_BUCKET: 'b', S3_ACCESS_KEY: 'a', S3_SECRET_KEY: 's' }
    expect(read({ S3_ENDPOINT: 'https://store.example', ...keys }).s3).toMatchObject({
      port: 443,
      useSSL: true,
      bucket: 'b',
    })
  })

  it('keeps one secret for all processes on a home', () => {
    expect(read().secret).toBe(read().secret)
    expect(read().secret.length).toBeGreaterThan(32)
    expect(readdirSync(home)).toEqual(['secret'])
  })

  it('names a home that cannot be one', () => {
    const file = join(home, 'secret', 'below')
    read()
    expect(() => read({ GESTALT_HOME: file })).toThrow(/below cannot be used: ENOTDIR/)
  })

  it('is documented in .env.example, each variable', () => {
    const text = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8')
    const names = new Set(text('../src/config.ts').match(/\b(GESTALT|S3|DATABASE|REDIS)_[A-Z_]*[A-Z]\b/g))
    const documented = new Set(
      text('../.env.example')
        .match(/^# ?[A-Z0-9_]+(?==)/gm)
        ?.map((line) => line.replace(/^# ?/, '')),
    )
    expect([...names].filter((name) => !documented.has(name))).toEqual([])
  })
})
