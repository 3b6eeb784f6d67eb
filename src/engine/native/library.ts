import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Unavailable } from '../../errors.ts'
import { refuse, run, type Symptom } from './programs.ts'
import type { Platform } from './requirements.ts'

/** Written for 2.9, the binding compiles against this and computes rightly: the C interface has only grown. */
export const tensorflowVersion = '2.21.0'

/** Which Python a wheel is for makes no difference to the library in it; this one has all of them. */
const pythonOfWheels = '3.12'

/** The oldest systems that wheels of TensorFlow's and NVIDIA's are made for. */
const oldestGlibc = 17

interface Fetching {
  cuda: boolean
  onStep(words: string): void
  onLine?(line: string): void
}

/** The names of all systems whose wheels load here. */
function tags({ machine, glibc }: Platform): string[] {
  const versions = Array.from({ length: glibc - oldestGlibc + 1 }, (_, i) => glibc - i)
  return [...versions.map((minor) => `manylinux_2_${minor}_${machine}`), `manylinux2014_${machine}`]
}

const symptoms: readonly Symptom[] = [
  {
    words: /NewConnectionError|Failed to establish|name resolution|Max retries|ConnectTimeout|ReadTimeout|ProxyError/,
    error: (line) =>
      new Unavailable(
        `pip does not reach PyPI: ${line.slice(0, 200)}`,
        'see to the network, or name a mirror: pip config set global.index-url URL',
      ),
  },
  {
    words: /CERTIFICATE_VERIFY_FAILED|SSLError/,
    error: () =>
      new Unavailable('pip does not trust the certificate of PyPI or of your mirror', 'name the right one: PIP_CERT'),
  },
  {
    words: /from versions: none/,
    error: () =>
      new Unavailable(
        `pip finds no wheel of TensorFlow ${tensorflowVersion}: PyPI is out of reach, or your mirror of it lacks them`,
        "see to the network, and 'pip config list' for the mirror",
      ),
  },
  {
    words: /No matching distribution found|Could not find a version/,
    error: (line) =>
      new Unavailable(`PyPI, or your mirror of it, lacks a wheel: ${line}`, "see 'pip config list' for the mirror"),
  },
]

/** Unpacks wheels, without what they depend on, into the folder `libraries`. */
async function fetchWheels(
  folder: string,
  names: readonly string[],
  platform: Platform,
  python: string,
  { onLine }: Fetching,
): Promise<void> {
  const place = join(folder, 'libraries')
  // Beside the rest: a system's own folder for such files may be small, or on another disk.
  const scratch = join(folder, 'scratch')
  mkdirSync(scratch)
  const parameters = [
    ...['-m', 'pip', 'install', '--target', place, '--no-deps', '--no-compile', '--only-binary=:all:'],
    ...['--python-version', pythonOfWheels, '--implementation', 'cp', '--disable-pip-version-check'],
    ...['--progress-bar', 'off', '--upgrade', ...tags(platform).flatMap((tag) => ['--platform', tag]), ...names],
  ]
  const gone = () => new Unavailable(`there is no program '${python}'`, 'install Python 3 with pip')
  const ended = await run(python, parameters, gone, {
    variables: { TMPDIR: scratch, PIP_ROOT_USER_ACTION: 'ignore' },
    onLine,
  })
  refuse(ended, symptoms, (line) => new Unavailable(`pip does not fetch ${names[0]}: ${line}`, 'run it again'))
  rmSync(scratch, { recursive: true })
}

/** NVIDIA's libraries as the wheel of TensorFlow asks for them with [and-cuda]. */
function cudaLibraries(libraries: string): string[] {
  const own = readdirSync(libraries).find((name) => /^tensorflow-.*\.dist-info$/.test(name))
  const lines = own ? readFileSync(join(libraries, own, 'METADATA'), 'utf8').split('\n') : []
  const asked = lines.flatMap(
    (line) => /^Requires-Dist: (nvidia-[^;]+?) *; *extra == ["']and-cuda["']/.exec(line)?.[1] ?? [],
  )
  if (asked.length === 0)
    throw new Unavailable(
      `the wheel of TensorFlow ${tensorflowVersion} does not say which CUDA libraries it needs`,
      'see that PyPI, or your mirror of it, serves the original',
    )
  return asked
}

/** Of TensorFlow's package for Python only the libraries and their C headers are kept. */
function keepLibraries(libraries: string): void {
  const kept = /^(tensorflow|nvidia|.*\.dist-info)$/
  for (const name of readdirSync(libraries)) if (!kept.test(name)) rmSync(join(libraries, name), { recursive: true })
  const own = join(libraries, 'tensorflow')
  for (const name of readdirSync(own))
    if (name !== 'include' && !name.startsWith('libtensorflow')) rmSync(join(own, name), { recursive: true })
  for (const name of ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2', 'include/tensorflow/c/c_api.h'])
    if (!existsSync(join(own, name)))
      throw new Unavailable(
        `the wheel of TensorFlow ${tensorflowVersion} has no ${name}`,
        'see that PyPI, or your mirror of it, serves the original',
      )
}

/**
 * Fetches the wheel of TensorFlow, and NVIDIA's for CUDA, and keeps their libraries in the places relative to each other
 * in which they find each other.
 */
export async function fetchLibrary(
  folder: string,
  platform: Platform,
  python: string,
  fetching: Fetching,
): Promise<void> {
  const { cuda, onStep } = fetching
  const name = cuda || platform.machine !== 'x86_64' ? 'tensorflow' : 'tensorflow-cpu'
  onStep(`fetches ${name} ${tensorflowVersion} from PyPI (${cuda ? 570 : 280} MB)`)
  await fetchWheels(folder, [`${name}==${tensorflowVersion}`], platform, python, fetching)
  keepLibraries(join(folder, 'libraries'))
  if (!cuda) return
  onStep("fetches NVIDIA's libraries for CUDA 12 from PyPI (some 2.5 GB)")
  await fetchWheels(folder, cudaLibraries(join(folder, 'libraries')), platform, python, fetching)
}
