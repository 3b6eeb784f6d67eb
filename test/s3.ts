import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { S3Config } from '../src/config.ts'

const standard = { accessKey: 'test-access', secretKey: 'test-secret-key', bucket: 'gestalt-test' }

/** The real S3 server that the tests start: `go install github.com/versity/versitygw/cmd/versitygw@v1.8.0`. */
function program(): string | undefined {
  const candidates = ['versitygw', join(homedir(), 'go/bin/versitygw')]
  return candidates.find((name) => spawnSync(name, ['--version']).status === 0)
}

/** Whether there is an S3 server to test with; without one those tests are skipped. */
export const hasS3 = Boolean(process.env.S3_TEST_ENDPOINT) || program() !== undefined

function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })
}

async function answers(port: number): Promise<void> {
  for (let waited = 0; waited < 200; waited++) {
    if (await fetch(`http://127.0.0.1:${port}/`).then(Boolean, () => false)) return
    await sleep(50)
  }
  throw new Error('versitygw does not answer')
}

/** With these keys, and this bucket made. */
export async function startS3Server({
  accessKey,
  secretKey,
  bucket,
} = standard): Promise<{ config: S3Config; stop(): void }> {
  const root = mkdtempSync(join(tmpdir(), 'gestalt-s3-'))
  for (const name of ['data', `data/${bucket}`, 'sidecar']) mkdirSync(join(root, name))
  const port = await freePort()
  const args = ['--port', `127.0.0.1:${port}`, '--quiet', '--access', accessKey, '--secret', secretKey]
  const backend = ['posix', '--sidecar', join(root, 'sidecar'), join(root, 'data')]
  const child = spawn(program()!, [...args, ...backend], { stdio: 'ignore' })
  const stop = () => {
    child.kill('SIGKILL')
    rmSync(root, { recursive: true, force: true })
  }
  try {
    await answers(port)
  } catch (error) {
    stop()
    throw error
  }
  const region = 'us-east-1'
  const config = { endPoint: '127.0.0.1', port, useSSL: false, region, bucket, accessKey, secretKey, pathStyle: true }
  return { config, stop }
}

/** The server of S3_TEST_ENDPOINT (with a bucket named gestalt-test), or one of our own. */
export async function testS3(): Promise<{ config: S3Config; stop(): void }> {
  const endpoint = process.env.S3_TEST_ENDPOINT
  if (!endpoint) return startS3Server()
  const { hostname, port, protocol } = new URL(endpoint)
  const useSSL = protocol === 'https:'
  const config: S3Config = {
    endPoint: hostname,
    port: Number(port) || (useSSL ? 443 : 80),
    useSSL,
    region: process.env.S3_TEST_REGION ?? 'us-east-1',
    bucket: process.env.S3_TEST_BUCKET ?? standard.bucket,
    accessKey: process.env.S3_TEST_ACCESS_KEY ?? '',
    secretKey: process.env.S3_TEST_SECRET_KEY ?? '',
    pathStyle: true,
  }
  return { config, stop: () => {} }
}
