import { mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { childEnvironment, readConfig } from '../src/config.ts'

const home = mkdtempSync(join(tmpdir(), 'gestalt-config-'))
const read = (environment: Record<string, string> = {}, cores?: number) =>
  readConfig({ GESTALT_HOME: home, ...environment }, cores)

describe('the settings', () => {
  it('listens on this machine only by default', () => {
    expect(read()).toMatchObject({ host: '127.0.0.1', port: 4000, token: undefined, s3: undefined, engine: 'auto' })
  })

  it.each([
    ['GESTALT_PORT', '80a', /'80a' is not a whole number from 0 to 65535/],
    ['GESTALT_PORT', '65536', /not a whole number/],
    ['GESTALT_METRICS_PORT', 'on', /GESTALT_METRICS_PORT: 'on' is not a whole number/],
    ['GESTALT_ENGINE', 'cuda', /'cuda' is not one of: auto, webgpu, onnx-cuda, machine, onnx, tensorflow, wasm, cpu/],
    ['GESTALT_GPU', 'x'.repeat(201), /GESTALT_GPU: is neither a number nor a part of the name/],
    ['GESTALT_GPU_SLOTS', '0', /GESTALT_GPU_SLOTS: '0' is not a whole number from 1 to 64/],
    ['GESTALT_GPU_MEMORY', '16GiB', /GESTALT_GPU_MEMORY: '16GiB' is not a whole number from 1048576 to/],
    ['GESTALT_TOKEN', 'short', /has 5 characters; use at least 16/],
    ['GESTALT_HOST', '0.0.0.0', /reachable from other machines: set GESTALT_TOKEN/],
    ['DATABASE_URL', 'mysql://db', /starts with postgresql:\/\//],
    ['REDIS_URL', 'http://cache', /starts with redis:\/\//],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4317', /starts with http:\/\//],
    ['S3_BUCKET', 'bucket', /without S3_ENDPOINT/],
    ['S3_ENDPOINT', 'http://store:9000', /S3_SECRET_KEY: is missing/],
  ])('refuses %s=%s and says what would have been right', (name, value, words) => {
    expect(() => read({ [name]: value })).toThrow(words)
  })

  it('refuses to name a GPU for an engine that takes none', () => {
    const fault = /GESTALT_GPU: names a GPU for webgpu, and GESTALT_ENGINE is 'onnx-cuda'.*CUDA_VISIBLE_DEVICES/
    expect(() => read({ GESTALT_GPU: '1', GESTALT_ENGINE: 'onnx-cuda' })).toThrow(fault)
  })

  it('computes on the GPU that is named or not at all, and on a software one where the engine is named too', () => {
    expect(read()).toMatchObject({ engine: 'auto', gpu: { choice: undefined, software: false } })
    expect(read({ GESTALT_GPU: ' 1 ' })).toMatchObject({ engine: 'webgpu', gpu: { choice: '1', software: false } })
    const both = { GESTALT_ENGINE: 'webgpu', GESTALT_GPU: 'swiftshader' }
    expect(read(both)).toMatchObject({ engine: 'webgpu', gpu: { choice: 'swiftshader', software: true } })
  })

  it('names every fault at once', () => {
    expect(() => read({ GESTALT_PORT: 'x', GESTALT_ENGINE: 'y' })).toThrow(/2 faults.*GESTALT_PORT.*GESTALT_ENGINE/)
  })

  it('never repeats a URL that may hold a password', () => {
    expect(() => read({ DATABASE_URL: 'mysql://me:secret@db' })).toThrow(/^(?!.*secret)/)
  })

  it.each([
    [1, 1, 1],
    [8, 1, 8],
    [8, 3, 2],
    [2, 4, 1],
    [64, 1, 16],
    [64, 8, 8],
  ])('shares %i cores between %i runs at once: %i threads each', (cores, concurrency, threads) => {
    expect(read({ GESTALT_CONCURRENCY: String(concurrency) }, cores).engineThreads).toBe(threads)
  })

  it('refuses more threads than cores, and says what would be right', () => {
    expect(read({ GESTALT_ENGINE_THREADS: '8', GESTALT_CONCURRENCY: '2' }, 8).engineThreads).toBe(8)
    expect(() => read({ GESTALT_ENGINE_THREADS: '9', GESTALT_CONCURRENCY: '2' }, 8)).toThrow(
      /'9' is more than this machine's 8 cores: use at most 8, or leave it out for 4 \(2 runs at once share the cores\)/,
    )
    for (const wrong of ['0', '1.5', 'all'])
      expect(() => read({ GESTALT_ENGINE_THREADS: wrong })).toThrow(
        /GESTALT_ENGINE_THREADS: .*not a whole number from 1/,
      )
  })

  it('performs as many runs at once on a GPU as elsewhere, unless it is told otherwise', () => {
    expect(read()).toMatchObject({ concurrency: 1, gpuSlots: 1, gpuMemory: undefined })
    expect(read({ GESTALT_CONCURRENCY: '2' })).toMatchObject({ concurrency: 2, gpuSlots: 2 })
    expect(read({ GESTALT_GPU_SLOTS: '3', GESTALT_GPU_MEMORY: '17179869184' })).toMatchObject({
      ...{ concurrency: 1, gpuSlots: 3, gpuMemory: 2 ** 34 },
    })
  })

  it('sends traces where it is told to, and what performs runs does so too', () => {
    const settings = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318', OTEL_TRACES_SAMPLER: 'always_off' }
    expect(read().tracing).toBe(false)
    expect(read(settings).tracing).toBe(true)
    expect(childEnvironment(1, { environment: settings })).toMatchObject(settings)
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

  it('gives the processes that compute places, the tuning of engines, and no settings or secrets', () => {
    const vulkan = { VK_DRIVER_FILES: '/icd.json', XDG_DATA_DIRS: '/usr/share', RADV_DEBUG: 'info' }
    const drivers = { CUDA_VISIBLE_DEVICES: '1', ...vulkan, __GL_SHADER_DISK_CACHE_PATH: '/tmp' }
    const given = { PATH: '/bin', ...drivers, GESTALT_TOKEN: 'x', DATABASE_URL: 'y', S3_SECRET_KEY: 'z' }
    expect(childEnvironment(4, { environment: given })).toEqual({
      ...{ PATH: '/bin', ...drivers, TF_NUM_INTRAOP_THREADS: '4' },
      ...{ MALLOC_MMAP_THRESHOLD_: '2000000000', MALLOC_TRIM_THRESHOLD_: '8000000000', MALLOC_ARENA_MAX: '1' },
      GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1',
      ...{ TF_CPP_MIN_LOG_LEVEL: '1', TF_FORCE_GPU_ALLOW_GROWTH: 'true' },
    })
  })

  it('leaves memory to the system beside a GPU, whose driver takes much only while it compiles', () => {
    const names = Object.keys(childEnvironment(4, { environment: { PATH: '/bin' }, onGpu: true }))
    expect(names.filter((name) => /MALLOC|GLIBC/.test(name))).toEqual([])
    const own = { MALLOC_ARENA_MAX: '4' }
    expect(childEnvironment(4, { environment: own, onGpu: true })).toMatchObject(own)
  })

  it('leaves the memory settings of who has some', () => {
    const own = { MALLOC_ARENA_MAX: '4', GLIBC_TUNABLES: 'glibc.malloc.check=1', TF_NUM_INTRAOP_THREADS: '2' }
    expect(childEnvironment(1, { environment: own })).toMatchObject({ ...own, MALLOC_TRIM_THRESHOLD_: '8000000000' })
  })

  it('is documented in .env.example, each variable', () => {
    const text = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8')
    const names = new Set(text('../src/config.ts').match(/\b(GESTALT|S3|DATABASE|REDIS|OTEL)_[A-Z_]*[A-Z]\b/g))
    const documented = new Set(
      text('../.env.example')
        .match(/^# ?[A-Z0-9_]+(?==)/gm)
        ?.map((line) => line.replace(/^# ?/, '')),
    )
    expect([...names].filter((name) => !documented.has(name))).toEqual([])
  })
})
