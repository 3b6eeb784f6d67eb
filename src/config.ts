import { randomBytes } from 'node:crypto'
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import { join, resolve } from 'node:path'
import { engines } from './engines.ts'
import { type Fault, InvalidDefinition, Misconfigured } from './errors.ts'
import { installation } from './installation.ts'

export const engineNames = ['auto', ...engines] as const

/** An S3-compatible store. */
export interface S3Config {
  endPoint: string
  port: number
  useSSL: boolean
  region: string
  bucket: string
  accessKey: string
  secretKey: string
  pathStyle: boolean
}

/** Everything the environment decides, read once. */
export interface Config {
  /** Folder of the embedded state: objects, database files, secrets. */
  home: string
  host: string
  port: number
  /** Where the metrics are served without a token; nowhere where absent. */
  metricsPort: number | undefined
  /** Required of every caller where set. */
  token: string | undefined
  /** Postgres; the front doors that bring an embedded one fill it in. */
  databaseUrl: string | undefined
  redisUrl: string | undefined
  /** Undefined: a directory below `home`. */
  s3: S3Config | undefined
  /** Folders that hold datasets beside the object store, as <folder>/<dataset>/<file>. */
  datasetFolders: readonly string[]
  /** What computes; `auto` is the fastest that works on the machine. */
  engine: (typeof engineNames)[number]
  /** Which GPU the engine `webgpu` takes, and whether one that is the processor in disguise will do where it is named. */
  gpu: { choice: string | undefined; software: boolean }
  /** Where engines find what was not installed with the packages: ONNX Runtime's libraries for CUDA. */
  enginePlaces: { onnxRuntime?: string }
  /** Threads of the engine in each process that performs a run. */
  engineThreads: number
  /** Runs at once in one worker process. */
  concurrency: number
  /** The same where the worker computes on a GPU, all of them on that one. */
  gpuSlots: number
  /** Bytes that the runs of one worker process may take together. */
  workerMemory: number
  /** Bytes of the GPU that they may take together; undefined: all that the GPU is known to have. */
  gpuMemory: number | undefined
  /**
   * Days after which the points of a finished run move to the object store; undefined: they stay in the database, where
   * every read is quickest and one backup holds all.
   */
  keepPointsDays: number | undefined
  /** Whether traces are sent; where to is for OpenTelemetry to read. */
  tracing: boolean
  logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'
  /** Largest request body in bytes. */
  bodyLimit: number
  /** Largest file that may be uploaded, images or weights, in bytes. */
  uploadLimit: number
  /** Signs the links of the directory store; shared by the processes on one home. */
  secret: string
  /** What links to this server start with. */
  publicUrl: string
  /** Where the command line looks for the server. */
  url: string
}

/** Of this software, as its package says it. */
export function softwareVersion(): string {
  return (JSON.parse(readFileSync(join(installation, 'package.json'), 'utf8')) as { version: string }).version
}

/** Datasets shipped with the code, and those of Debian's dataset-* packages. */
const standardDatasetFolders = [join(installation, 'datasets'), '/usr/share/datasets']

type Environment = Record<string, string | undefined>

/** Collects every fault instead of stopping at the first. */
class Reader {
  readonly faults: Fault[] = []
  private readonly environment: Environment
  constructor(environment: Environment) {
    this.environment = environment
  }
  text(name: string): string | undefined {
    const value = this.environment[name]?.trim()
    return value === '' ? undefined : value
  }
  fault(name: string, detail: string): undefined {
    this.faults.push({ pointer: name, detail })
  }
  integer(name: string, fallback: number, least: number, most: number): number {
    const value = this.text(name)
    if (value === undefined) return fallback
    const number = Number(value)
    if (/^\d+$/.test(value) && number >= least && number <= most) return number
    this.fault(name, `'${value}' is not a whole number from ${least} to ${most}`)
    return fallback
  }
  choice<const T extends string>(name: string, choices: readonly T[], fallback: T): T {
    const value = this.text(name)
    if (value === undefined) return fallback
    if ((choices as readonly string[]).includes(value)) return value as T
    this.fault(name, `'${value}' is not one of: ${choices.join(', ')}`)
    return fallback
  }
  url(name: string, protocols: readonly string[]): string | undefined {
    const value = this.text(name)
    if (value === undefined) return undefined
    if (URL.canParse(value) && protocols.includes(new URL(value).protocol)) return value
    // The value may hold a password, so it is not repeated.
    return this.fault(name, `is not a URL that starts with ${protocols.map((p) => `${p}//`).join(' or ')}`)
  }
  boolean(name: string, fallback: boolean): boolean {
    return this.choice(name, ['true', 'false'], fallback ? 'true' : 'false') === 'true'
  }
}

function readS3(read: Reader): S3Config | undefined {
  const endpoint = read.url('S3_ENDPOINT', ['http:', 'https:'])
  const accessKey = read.text('S3_ACCESS_KEY')
  const secretKey = read.text('S3_SECRET_KEY')
  const bucket = read.text('S3_BUCKET')
  const region = read.text('S3_REGION') ?? 'us-east-1'
  const pathStyle = read.boolean('S3_PATH_STYLE', true)
  if (!endpoint) {
    for (const name of ['S3_BUCKET', 'S3_ACCESS_KEY', 'S3_SECRET_KEY'])
      if (read.text(name)) read.fault(name, 'is set without S3_ENDPOINT; set both, or none for the directory store')
    return undefined
  }
  const needed = { S3_BUCKET: bucket, S3_ACCESS_KEY: accessKey, S3_SECRET_KEY: secretKey }
  for (const [name, value] of Object.entries(needed)) if (!value) read.fault(name, 'is missing, and S3_ENDPOINT is set')
  const url = new URL(endpoint)
  if (url.pathname !== '/') read.fault('S3_ENDPOINT', 'must not have a path: the bucket is named by S3_BUCKET')
  const useSSL = url.protocol === 'https:'
  return {
    endPoint: url.hostname,
    port: url.port ? Number(url.port) : useSSL ? 443 : 80,
    useSSL,
    region,
    bucket: bucket ?? '',
    accessKey: accessKey ?? '',
    secretKey: secretKey ?? '',
    pathStyle,
  }
}

function readPlaces(read: Reader): Config['enginePlaces'] {
  const onnxRuntime = read.text('GESTALT_ONNXRUNTIME')
  if (onnxRuntime === undefined) return {}
  if (!existsSync(onnxRuntime)) read.fault('GESTALT_ONNXRUNTIME', `there is no folder '${onnxRuntime}'`)
  return { onnxRuntime: resolve(onnxRuntime) }
}

/** More threads than this bring the batches of usual nets no further. */
const mostUsefulThreads = 16

/** By default the runs at once share the cores. */
function readThreads(read: Reader, concurrency: number, cores: number): number {
  const share = Math.max(1, Math.min(mostUsefulThreads, Math.floor(cores / concurrency)))
  const threads = read.integer('GESTALT_ENGINE_THREADS', share, 1, 1024)
  if (threads > cores)
    read.fault(
      'GESTALT_ENGINE_THREADS',
      `'${threads}' is more than this machine's ${cores} cores: use at most ${cores}, or leave it out for ${share}` +
        (concurrency > 1 ? ` (${concurrency} runs at once share the cores)` : ''),
    )
  return threads
}

/**
 * Who names a GPU wants to compute on it: `auto` is then that engine, and nothing falls back to the processor. What only
 * looks like a GPU is taken where both are named.
 */
function readEngine(read: Reader): Pick<Config, 'engine' | 'gpu'> {
  const engine = read.choice('GESTALT_ENGINE', engineNames, 'auto')
  const choice = read.text('GESTALT_GPU')
  // No name of a GPU is longer, or has what Dawn's flags are told apart by.
  if (choice !== undefined && !/^[ -~]{1,200}$/.test(choice))
    read.fault(
      'GESTALT_GPU',
      'is neither a number nor a part of the name of a GPU; `gestalt doctor` shows what there is',
    )
  if (choice !== undefined && engine !== 'auto' && engine !== 'webgpu')
    read.fault(
      'GESTALT_GPU',
      `names a GPU for webgpu, and GESTALT_ENGINE is '${engine}': leave one of the two out` +
        (engine === 'onnx-cuda' || engine === 'tensorflow' ? ', and choose the card by CUDA_VISIBLE_DEVICES' : ''),
    )
  return {
    engine: engine === 'auto' && choice !== undefined ? 'webgpu' : engine,
    gpu: { choice, software: engine === 'webgpu' },
  }
}

/** The machine's memory, or less where a container or a service manager allows less. */
function availableMemory(): number {
  const limit = process.constrainedMemory()
  return limit > 0 && limit < totalmem() ? limit : totalmem()
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host)
}

/** Whoever first needs the secret of a home makes it: linked into place whole, so that nobody reads half of it. */
export function homeSecret(home: string): string {
  const file = join(home, 'secret')
  if (!existsSync(file)) {
    mkdirSync(home, { recursive: true, mode: 0o700 })
    const own = `${file}.${process.pid}`
    writeFileSync(own, `${randomBytes(32).toString('base64url')}\n`, { mode: 0o600 })
    try {
      linkSync(own, file)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error // another process was quicker
    } finally {
      rmSync(own, { force: true })
    }
  }
  return readFileSync(file, 'utf8').trim()
}

/**
 * The environment as a Config. Throws Misconfigured with every fault. This is the only reader of `process.env`;
 * `.env.example` documents each variable.
 */
export function readConfig(environment: Environment = process.env, cores = availableParallelism()): Config {
  const read = new Reader(environment)
  const home = resolve(read.text('GESTALT_HOME') ?? join(installation, '.gestalt'))
  const host = read.text('GESTALT_HOST') ?? '127.0.0.1'
  const port = read.integer('GESTALT_PORT', 4000, 0, 65535)
  const token = read.text('GESTALT_TOKEN')
  if (token !== undefined && token.length < 16)
    read.fault(
      'GESTALT_TOKEN',
      `has ${token.length} characters; use at least 16, for example from: openssl rand -hex 32`,
    )
  if (!isLoopback(host) && !token)
    read.fault(
      'GESTALT_HOST',
      `'${host}' is reachable from other machines: set GESTALT_TOKEN as well, or use 127.0.0.1`,
    )
  const s3 = readS3(read)
  const concurrency = read.integer('GESTALT_CONCURRENCY', 1, 1, 64)
  const urlHost = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host
  const own = `http://${urlHost.includes(':') ? `[${urlHost}]` : urlHost}:${port}`
  const config: Omit<Config, 'secret'> = {
    home,
    host,
    port,
    metricsPort: read.text('GESTALT_METRICS_PORT') ? read.integer('GESTALT_METRICS_PORT', 0, 0, 65535) : undefined,
    token,
    databaseUrl: read.url('DATABASE_URL', ['postgresql:', 'postgres:']),
    redisUrl: read.url('REDIS_URL', ['redis:', 'rediss:']),
    s3,
    datasetFolders: [
      ...(read.text('GESTALT_DATASETS') ?? '')
        .split(':')
        .filter(Boolean)
        .map((folder) => resolve(folder)),
      ...standardDatasetFolders,
    ],
    ...readEngine(read),
    enginePlaces: readPlaces(read),
    engineThreads: readThreads(read, concurrency, cores),
    concurrency,
    gpuSlots: read.integer('GESTALT_GPU_SLOTS', concurrency, 1, 64),
    workerMemory: read.integer('GESTALT_WORKER_MEMORY', availableMemory(), 2 ** 20, 2 ** 50),
    gpuMemory: read.text('GESTALT_GPU_MEMORY') ? read.integer('GESTALT_GPU_MEMORY', 0, 2 ** 20, 2 ** 50) : undefined,
    keepPointsDays: read.text('GESTALT_KEEP_POINTS_DAYS')
      ? read.integer('GESTALT_KEEP_POINTS_DAYS', 0, 0, 36_500)
      : undefined,
    tracing: read.url('OTEL_EXPORTER_OTLP_ENDPOINT', ['http:', 'https:']) !== undefined,
    logLevel: read.choice('GESTALT_LOG_LEVEL', ['trace', 'debug', 'info', 'warn', 'error', 'silent'], 'info'),
    bodyLimit: read.integer('GESTALT_BODY_LIMIT', 1_048_576, 1024, 1_073_741_824),
    uploadLimit: read.integer('GESTALT_UPLOAD_LIMIT', 2 ** 40, 1024, 2 ** 50),
    publicUrl: (read.url('GESTALT_PUBLIC_URL', ['http:', 'https:']) ?? own).replace(/\/$/, ''),
    url: (read.url('GESTALT_URL', ['http:', 'https:']) ?? own).replace(/\/$/, ''),
  }
  if (read.faults.length > 0) {
    const summary = new InvalidDefinition(read.faults, 'the environment')
    throw new Misconfigured(summary.message, 'correct these variables; .env.example explains each', { cause: summary })
  }
  try {
    return { ...config, secret: read.text('GESTALT_SECRET') ?? homeSecret(home) }
  } catch (cause) {
    throw new Misconfigured(
      `${home} cannot be used: ${(cause as Error).message}`,
      'name a folder with GESTALT_HOME that this account may write to and that has room',
      { cause },
    )
  }
}

/**
 * For glibc, whose defaults give the large buffers of an engine on the processor back to the system and fetch them again
 * at every step; they must stand before the process starts, and mean nothing elsewhere. Bytes; one arena. Beside a GPU
 * they only hold what its driver's compiler took: gigabytes.
 */
const memoryDefaults = {
  MALLOC_MMAP_THRESHOLD_: '2000000000',
  MALLOC_TRIM_THRESHOLD_: '8000000000',
  MALLOC_ARENA_MAX: '1',
  // Large pages, of which a large buffer needs few.
  GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1',
}

/** For TensorFlow, which otherwise tells stderr what it is, and takes all the memory of a GPU at once. */
const tensorFlowDefaults = { TF_CPP_MIN_LOG_LEVEL: '1', TF_FORCE_GPU_ALLOW_GROWTH: 'true' }

const inherited = [
  ...['PATH', 'HOME', 'USER', 'LANG', 'LC_\\w+', 'TZ', 'TMPDIR', 'TMP', 'TEMP', 'SystemRoot', 'LD_LIBRARY_PATH'],
  ...['NODE_EXTRA_CA_CERTS', 'SSL_CERT_\\w+'],
  // Of the engines: how memory is had, which GPUs there are, how TensorFlow is tuned.
  ...['MALLOC_\\w+', 'GLIBC_TUNABLES', 'CUDA_\\w+', 'NVIDIA_\\w+', 'TF_\\w+'],
  // Of Vulkan: where its drivers are described, and what those of Mesa, AMD and NVIDIA are told.
  ...['VK_\\w+', 'XDG_\\w+', 'MESA_\\w+', 'RADV_\\w+', 'ANV_\\w+', 'NODEVICE_SELECT', 'DRI_PRIME', 'AMD_VULKAN_ICD'],
  '__(GL|NV|VK)_\\w+',
  // Where traces go.
  'OTEL_\\w+',
]

/**
 * What a process that performs a run inherits: where programs and folders are, how its engine is tuned, and none of our
 * settings and secrets. `threads`: of its engine, for TensorFlow, which asks the environment; `onGpu`: whether it
 * computes on a GPU.
 */
export function childEnvironment(
  threads: number,
  { environment = process.env, onGpu = false }: { environment?: Environment; onGpu?: boolean } = {},
): Environment {
  const wanted = new RegExp(`^(${inherited.join('|')})$`)
  return {
    ...(onGpu ? {} : memoryDefaults),
    ...tensorFlowDefaults,
    TF_NUM_INTRAOP_THREADS: String(threads),
    ...Object.fromEntries(Object.entries(environment).filter(([name]) => wanted.test(name))),
  }
}
