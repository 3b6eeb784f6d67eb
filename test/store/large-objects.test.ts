import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { openS3 } from '../../src/store/s3.ts'
import { canCertify, hasOwnS3, hasS3, makeCertificate, startServer, testS3 } from '../s3.ts'

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

async function stream(settings: object, environment: Record<string, string> = {}): Promise<Result> {
  const args = ['--import', 'tsx', script, JSON.stringify(settings)]
  const { stdout } = await promisify(execFile)(process.execPath, args, { env: { ...process.env, ...environment } })
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Result
}

/** Each opens a store for a folder, and says how it is reached. */
const stores = [
  { name: 'a directory', present: true, open: async () => ({ config: undefined, environment: {}, stop() {} }) },
  { name: 'an S3 bucket', present: hasS3, open: async () => ({ ...(await testS3()), environment: {} }) },
  {
    name: 'an S3 bucket, over TLS',
    present: hasOwnS3 && canCertify,
    async open(folder: string) {
      const certificate = makeCertificate(folder)
      const server = await startServer({ certificate })
      return { ...server, environment: { NODE_EXTRA_CA_CERTS: certificate.certificate } }
    },
  },
]

describe.each(stores)('an object of 200 MB in $name', ({ present, open }) => {
  it.skipIf(!present)('is stored and read, whole and in part, in memory that its size does not matter to', async () => {
    const home = mkdtempSync(join(tmpdir(), 'gestalt-large-'))
    const { config, environment, stop } = await open(home)
    try {
      const place = { home, secret: 'secret', publicUrl: 'http://127.0.0.1', s3: config }
      const found = await stream(place, environment)
      const { size, sha256 } = found
      expect(found.put).toMatchObject({ size, sha256 })
      expect(found.whole).toEqual({ bytes: size, sha256 })
      expect(found.part).toEqual({ bytes: 50_000_020, sha256: found.partSha256 })
      // Three parts of 8 MiB are on their way at once; what was read or sent is freed some time later.
      expect(found.growthMegabytes).toBeLessThan(140)
    } finally {
      stop()
      rmSync(home, { recursive: true, force: true })
    }
  })
})

it.skipIf(!hasOwnS3 || !canCertify)(
  'a certificate that nobody vouches for is told from a store that is away',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'gestalt-tls-'))
    const { config, stop } = await startServer({ certificate: makeCertificate(folder) })
    try {
      await expect(openS3(config).check()).rejects.toMatchObject({
        code: 'misconfigured',
        cure: expect.stringContaining('NODE_EXTRA_CA_CERTS'),
      })
    } finally {
      stop()
      rmSync(folder, { recursive: true, force: true })
    }
  },
)
