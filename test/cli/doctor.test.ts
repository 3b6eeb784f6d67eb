import { spawnSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { doctor, examineServices, serviceLines } from '../../src/cli/doctor.ts'
import { readConfig } from '../../src/config.ts'
import { withoutTensorFlow } from '../fixtures/no-tensorflow.ts'
import { testDatabase } from '../postgres.ts'
import { hasOwnS3, startServer } from '../s3.ts'
import { hasSwiftShader, swiftShader } from '../swiftshader.ts'
import { canMount, smallDisk } from '../tmpfs.ts'

// Several processes at work; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const home = mkdtempSync(join(tmpdir(), 'gestalt-doctor-'))

interface Report {
  engines: { candidate: string; works: boolean; reason?: string; cure?: string }[]
  services: { service: string; works: boolean | null; reason?: string; cure?: string }[]
  wanted: string
  gpu: string | null
  chosen: string | null
}

/** The report as a program and as a person reads it. */
async function examine(settings: Record<string, string>) {
  let report: Report | undefined
  let words = ''
  const output = {
    ...{ json: false, say() {} },
    result<T>(value: T, write: (value: T) => string) {
      report = value as unknown as Report
      words = write(value)
    },
  }
  const code = await doctor(readConfig({ GESTALT_HOME: home, ...settings }), output)
  return { code, report: report!, words }
}

describe('gestalt doctor', () => {
  it('shows each engine with its self-test or with reason and cure, the machine, and what a worker would use', async () => {
    const { code, report, words } = await examine({})
    expect(code).toBe(0)
    expect(report).toMatchObject({ node: process.versions.node, cores: expect.any(Number), wanted: 'auto' })
    expect(report.engines.map(({ candidate }) => candidate)).toEqual([
      'tensorflow-gpu',
      'webgpu',
      'onnx-cuda',
      'machine',
      'onnx',
      'tensorflow',
      'wasm',
      'cpu',
    ])
    expect(report.engines.slice(-2)).toMatchObject([
      { works: true, name: 'wasm', version: '4.22.0', threads: 1, selfTestMilliseconds: expect.any(Number) },
      { works: true, name: 'cpu' },
    ])
    expect(report.chosen).toBe(report.engines.find(({ works }) => works)!.candidate)
    for (const { works, reason, cure } of report.engines) expect(!works).toBe(Boolean(reason && cure))
    expect(words).toMatch(/^Gestalt .*, Node .*, \d+ cores, .* memory\nEngines, the fastest first:\n/)
    expect(words).toMatch(/^ {2}wasm +works {2}4\.22\.0, 1 thread, .*, self-test \d+ ms$/m)
    expect(words).toMatch(
      /^ {2}tensorflow-gpu +no +@tensorflow\/tfjs-node-gpu is not installed\n +.*build-tensorflow --cuda/m,
    )
    expect(words).toMatch(new RegExp(`^A worker with GESTALT_ENGINE=auto computes on: ${report.chosen}$`, 'm'))
  })

  describe.skipIf(!hasSwiftShader)('on WebGPU', () => {
    afterEach(() => vi.unstubAllEnvs())

    /** What is said of the engine where the environment is so. */
    async function webgpu(environment: Record<string, string>, settings: Record<string, string> = {}) {
      for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value)
      const { report, words } = await examine(settings)
      const found = report.engines.find(({ candidate }) => candidate === 'webgpu')!
      for (const said of [found.reason, found.cure]) if (said) expect(words).toContain(said)
      return { ...found, chosen: report.chosen }
    }

    it('says that there is no driver, and how to get one', async () => {
      expect(await webgpu({ VK_ICD_FILENAMES: '/none.json', VK_DRIVER_FILES: '/none.json' })).toMatchObject({
        works: false,
        reason: expect.stringMatching(
          /^no GPU was found: .*description of a Vulkan driver cannot be read: \/none\.json$/,
        ),
        cure: expect.stringContaining('mesa-vulkan-drivers'),
      })
    })

    it('says that only the processor is behind it, which nobody gets unasked', async () => {
      const { works, reason, cure, chosen } = await webgpu(swiftShader)
      expect({ works, reason, cure }).toEqual({
        works: false,
        reason: expect.stringMatching(/^only a software adapter was found \(SwiftShader Device/),
        cure: expect.stringContaining('GESTALT_ENGINE=webgpu and GESTALT_GPU=swiftshader'),
      })
      expect(chosen).not.toBe('webgpu')
    })

    it('names the setting that keeps others from being taken', async () => {
      for (const [name, value] of Object.entries(swiftShader)) vi.stubEnv(name, value)
      const { report, words } = await examine({ GESTALT_GPU: 'geforce' })
      expect([report.wanted, report.gpu, report.chosen]).toEqual(['webgpu', 'geforce', null])
      expect(words).toContain(
        'A worker with GESTALT_ENGINE=webgpu and GESTALT_GPU=geforce computes on: none, so no worker starts: ' +
          'set GESTALT_ENGINE=auto, and no GESTALT_GPU',
      )
    })

    it('shows it at work where it is asked for by name, and says which there are where another is', async () => {
      const engine = { GESTALT_ENGINE: 'webgpu' }
      expect(await webgpu(swiftShader, { ...engine, GESTALT_GPU: 'swiftshader' })).toMatchObject({
        ...{ works: true, chosen: 'webgpu', device: 'SwiftShader Device (Subzero)', version: '0.6.2' },
      })
      expect(await webgpu(swiftShader, { ...engine, GESTALT_GPU: 'geforce' })).toMatchObject({
        ...{ works: false, chosen: null },
        reason: "there is no GPU 'geforce' here; there is: 0 (SwiftShader Device (Subzero))",
      })
    })
  })

  it('ends with 1 where the engine that is asked for does not work, and names services that do not answer', async () => {
    vi.stubEnv('LD_LIBRARY_PATH', withoutTensorFlow.LD_LIBRARY_PATH)
    const { code, report, words } = await examine({
      ...{ GESTALT_ENGINE: 'tensorflow', DATABASE_URL: 'postgres://me:secret@127.0.0.1:1/none' },
      ...{ REDIS_URL: 'redis://127.0.0.1:1', S3_ENDPOINT: 'http://127.0.0.1:1' },
      ...{ S3_BUCKET: 'bucket', S3_ACCESS_KEY: 'a', S3_SECRET_KEY: 's' },
    })
    vi.unstubAllEnvs()
    expect(code).toBe(1)
    expect(report.chosen).toBeNull()
    expect(words).toMatch(/GESTALT_ENGINE=tensorflow computes on: none.*set GESTALT_ENGINE=auto/)
    expect(report.services.map(({ works, cure }) => [works, Boolean(cure)])).toEqual(Array(3).fill([false, true]))
    expect(words).not.toContain('secret')
  })

  it('finds a database that answers, and one that is not migrated', async () => {
    const [ready, empty] = [await testDatabase(), await testDatabase({ empty: true })]
    const services = (url: string) => examineServices(readConfig({ GESTALT_HOME: home, DATABASE_URL: url }))
    expect(await services(ready.url)).toContainEqual({ service: 'Postgres', works: true, place: 'DATABASE_URL' })
    expect(await services(empty.url)).toContainEqual(
      expect.objectContaining({
        works: false,
        reason: expect.stringContaining('0001_initial'),
        cure: "run 'gestalt migrate'",
      }),
    )
    await Promise.all([ready.drop(), empty.drop()])
  })

  /** The line about the object store, and what follows from it. */
  async function objectStore(settings: Record<string, string>) {
    const all = await examineServices(readConfig({ GESTALT_HOME: home, ...settings }))
    const one = all.find(({ service }) => service === 'object store')!
    const words = serviceLines(one).join('\n')
    const found: Report['services'][number] = one
    if (!found.works) for (const said of [found.reason!, found.cure!]) expect(words).toContain(said)
    return found
  }

  it.skipIf(!hasOwnS3)('says of an object store what is wrong with it, and how to mend that', async () => {
    const [open, closed] = [await startServer(), await startServer({ readOnly: true })]
    const of = ({ config }: typeof open, changes: Record<string, string> = {}) =>
      objectStore({
        ...{ S3_ENDPOINT: `http://127.0.0.1:${config.port}`, S3_BUCKET: config.bucket },
        ...{ S3_ACCESS_KEY: config.accessKey, S3_SECRET_KEY: config.secretKey, ...changes },
      })
    try {
      expect(await of(open)).toEqual({ service: 'object store', works: true, place: 'S3 at 127.0.0.1' })
      const faults = [
        [await of(open, { S3_SECRET_KEY: 'wrong' }), 'refuses our signature', 'S3_SECRET_KEY'],
        [await of(closed), 'does not let us write to the bucket', 'the right to'],
      ] as const
      for (const [{ works, reason, cure }, said, mended] of faults) {
        expect(works).toBe(false)
        expect(reason).toContain(said)
        expect(cure).toContain(mended)
      }
    } finally {
      open.stop()
      closed.stop()
    }
  })

  it.skipIf(!canMount)('says of a folder that its disk is full', async () => {
    const disk = smallDisk(1)
    try {
      expect(await objectStore({ GESTALT_HOME: disk.folder })).toMatchObject({ works: true })
      spawnSync('dd', ['if=/dev/zero', `of=${join(disk.folder, 'ballast')}`, 'bs=4096'])
      expect(await objectStore({ GESTALT_HOME: disk.folder })).toMatchObject({
        works: false,
        reason: expect.stringContaining('there is no room'),
        cure: expect.stringContaining('free some disk space'),
      })
    } finally {
      disk.remove()
    }
  })
})
