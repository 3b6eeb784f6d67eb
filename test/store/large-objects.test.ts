import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { hasS3, testS3 } from '../s3.ts'

const script = fileURLToPath(new URL('../fixtures/stream-large.ts', import.meta.url))

interface Result {
  size: number
  sha256: string
  partSha256: string
  put: { key: string; size: number; sha256: string }
  whole: { bytes: number; sha256: string }
  part: { bytes: number; sha256: string }
  growthMegabytes: number
}

async function stream(settings: object): Promise<Result> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', script, JSON.stringify(settings)])
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Result
}

describe.each([
  { name: 'a directory', present: true },
  { name: 'an S3 bucket', present: hasS3 },
])('an object of 200 MB in $name', ({ name, present }) => {
  it.skipIf(!present)('is stored and read, whole and in part, in memory that its size does not matter to', async () => {
    const home = mkdtempSync(join(tmpdir(), 'gestalt-large-'))
    const server = name === 'an S3 bucket' ? await testS3() : undefined
    try {
      const found = await stream({ home, secret: 'secret', publicUrl: 'http://127.0.0.1', s3: server?.config })
      const { size, sha256 } = found
      expect(found.put).toMatchObject({ size, sha256 })
      expect(found.whole).toEqual({ bytes: size, sha256 })
      expect(found.part).toEqual({ bytes: 50_000_020, sha256: found.partSha256 })
      // Three parts of 16 MiB are on their way at once; what was read or sent is freed some time later.
      expect(found.growthMegabytes).toBeLessThan(140)
    } finally {
      server?.stop()
      rmSync(home, { recursive: true, force: true })
    }
  })
})
