import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { S3Config } from '../src/config.ts'

const standard = { accessKey: 'test-access', secretKey: 'test-secret-key', bucket: 'gestalt-test' }
const region = 'us-east-1'

/** The real S3 server that the tests start: `go install github.com/versity/versitygw/cmd/versitygw@v1.8.0`. */
function program(): string | undefined {
  const candidates = ['versitygw', join(homedir(), 'go/bin/versitygw')]
  return candidates.find((name) => spawnSync(name, ['--version']).status === 0)
}

/** Whether one can be started here, to be killed or to be without room. */
export const hasOwnS3 = program() !== undefined

/** Whether there is an S3 server to test with; without one those tests are skipped. */
export const hasS3 = Boolean(process.env.S3_TEST_ENDPOINT) || hasOwnS3

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
    const socket = connect(port, '127.0.0.1')
    const there = await once(socket, 'connect').then(Boolean, () => false)
    socket.destroy()
    if (there) return
    await sleep(50)
  }
  throw new Error('versitygw does not answer')
}

/** A server of our own, which may die and come back with what it holds. */
export interface OwnS3 {
  config: S3Config
  kill(): Promise<void>
  start(): Promise<void>
  stop(): void
}

interface OwnS3Options {
  /** Where it keeps what it is given. */
  root?: string
  /** Otherwise a standard pair, and a bucket, which is made. */
  keys?: typeof standard
  /** It takes nothing. */
  readOnly?: boolean
  /** It speaks TLS, and signs for itself. */
  certificate?: Certificate
}

/** Files of a certificate for this machine's own address. */
export interface Certificate {
  certificate: string
  key: string
}

/** Whether a certificate can be made here. */
export const canCertify = spawnSync('openssl', ['version']).status === 0

export function makeCertificate(folder: string): Certificate {
  const files = { certificate: join(folder, 'certificate.pem'), key: join(folder, 'key.pem') }
  const made = ['-out', files.certificate, '-keyout', files.key, '-days', '2', '-subj', '/CN=gestalt-test']
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  execFileSync('openssl', ['req', ...kind, ...made, '-addext', 'subjectAltName=IP:127.0.0.1'], { stdio: 'ignore' })
  return files
}

export async function startServer(options: OwnS3Options = {}): Promise<OwnS3> {
  const { accessKey, secretKey, bucket } = options.keys ?? standard
  const root = options.root ?? mkdtempSync(join(tmpdir(), 'gestalt-s3-'))
  for (const name of [`data/${bucket}`, 'sidecar']) mkdirSync(join(root, name), { recursive: true })
  const port = await freePort()
  const args = ['--port', `127.0.0.1:${port}`, '--quiet', '--access', accessKey, '--secret', secretKey]
  if (options.readOnly) args.push('--readonly')
  const { certificate } = options
  if (certificate) args.push('--cert', certificate.certificate, '--key', certificate.key)
  const useSSL = certificate !== undefined
  const backend = ['posix', '--sidecar', join(root, 'sidecar'), join(root, 'data')]
  let child: ChildProcess | undefined
  const server: OwnS3 = {
    config: { endPoint: '127.0.0.1', port, useSSL, region, bucket, accessKey, secretKey, pathStyle: true },
    async start() {
      child = spawn(program()!, [...args, ...backend], { stdio: 'ignore' })
      await answers(port)
    },
    async kill() {
      const dead = child && once(child, 'exit')
      child?.kill('SIGKILL')
      await dead
    },
    stop() {
      child?.kill('SIGKILL')
      if (!options.root) rmSync(root, { recursive: true, force: true })
    },
  }
  try {
    await server.start()
  } catch (error) {
    server.stop()
    throw error
  }
  return server
}

/** The server of S3_TEST_ENDPOINT (with a bucket named gestalt-test), or one of our own. */
export async function testS3(): Promise<{ config: S3Config; stop(): void }> {
  const endpoint = process.env.S3_TEST_ENDPOINT
  if (!endpoint) return startServer()
  const { hostname, port, protocol } = new URL(endpoint)
  const useSSL = protocol === 'https:'
  const config: S3Config = {
    endPoint: hostname,
    port: Number(port) || (useSSL ? 443 : 80),
    useSSL,
    region: process.env.S3_TEST_REGION ?? region,
    bucket: process.env.S3_TEST_BUCKET ?? standard.bucket,
    accessKey: process.env.S3_TEST_ACCESS_KEY ?? '',
    secretKey: process.env.S3_TEST_SECRET_KEY ?? '',
    pathStyle: true,
  }
  return { config, stop: () => {} }
}
