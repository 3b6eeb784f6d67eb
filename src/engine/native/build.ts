import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { Misconfigured, Unavailable } from '../../errors.ts'
import { fetchLibrary, tensorflowVersion } from './library.ts'
import { type Ended, refuse, run } from './programs.ts'
import { findTools, needRoom, type Programs, platformOf, type Tools, thisHost } from './requirements.ts'

const packageVersion = '4.22.0'
/** Node's C interface without the rest of Node's headers; the binding uses nothing else. */
const headers = 'node-api-headers@1.9.0'
/** The newest version of that interface that the package names. */
const interfaceVersion = 8

/** What has been built, kept beside it. */
export interface Built {
  package: string
  version: string
  tensorflow: string
  cuda: boolean
}

export interface BuildOptions {
  /** For NVIDIA's GPUs; it computes without one as well. */
  cuda: boolean
  /** Where to; what is there is replaced once the new one works. */
  folder: string
  programs: Programs
  /** Even where it is there already. */
  again: boolean
  /** Whether what lies in `folder` works; what it throws puts the former back. */
  check(): Promise<void>
  onStep(words: string): void
  onLine?(line: string): void
}

/** Bytes that are taken while it is built. */
const room = { cpu: 3.2e9, cuda: 12e9 }

const nameOf = (cuda: boolean) => (cuda ? '@tensorflow/tfjs-node-gpu' : '@tensorflow/tfjs-node')

const recordOf = (folder: string) => join(folder, 'built.json')

/** What lies in a folder; undefined where nothing does. */
export function builtIn(folder: string): Built | undefined {
  if (!existsSync(recordOf(folder))) return undefined
  return JSON.parse(readFileSync(recordOf(folder), 'utf8')) as Built
}

const silence = /E(NOTFOUND|AI_AGAIN|CONNREFUSED|TIMEDOUT|CONNRESET)|network|socket hang up|self.signed/

/** The package without what it does while it is installed: a download that is not served any more. */
async function fetchPackage(folder: string, { cuda, onLine }: BuildOptions, { npm }: Tools): Promise<void> {
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true }))
  const silent = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock']
  const names = [`${nameOf(cuda)}@${packageVersion}`, headers]
  const gone = () => new Unavailable(`there is no program '${npm}'`, 'install npm')
  const ended = await run(npm, ['install', ...silent, ...names], gone, { folder, onLine })
  const unreached = (line: string) =>
    new Unavailable(`npm does not reach its registry: ${line}`, 'see to the network and to npm config get registry')
  const other = (line: string) => new Unavailable(`npm does not install ${names[0]}: ${line}`, 'run it again')
  refuse(ended, [{ words: silence, error: unreached }], other)
  // Ours serves: the package finds it in the folders above, and a process has one tfjs.
  const scope = join(folder, 'node_modules/@tensorflow')
  for (const name of readdirSync(scope)) if (!/^tfjs-node/.test(name)) rmSync(join(scope, name), { recursive: true })
}

/** Where the libraries lie, as seen from the binding. */
const fromBinding = '$ORIGIN/../../../../../libraries/tensorflow'

function refuseCompiler(ended: Ended, compiler: string): void {
  const spoken = /(fatal error|error): .*/.exec(ended.said)?.[0]
  refuse(ended, [], (line) => {
    const words = spoken ?? line
    const old = /std=c\+\+17|c\+\+17/.test(words)
    const cure = old ? 'use one that knows C++17: g++ 8, clang 7 or newer' : 'see that it brings the C++ library and ld'
    return new Unavailable(`'${compiler}' does not compile the binding: ${words}`, `${cure}; --compiler names another`)
  })
}

/** The two files of the binding, against the library in `folder`. */
async function compile(folder: string, { cuda, onLine }: BuildOptions, { compiler }: Tools): Promise<void> {
  const library = join(folder, 'libraries/tensorflow')
  const own = join(folder, 'node_modules', nameOf(cuda))
  const place = join(own, `lib/napi-v${interfaceVersion}`)
  mkdirSync(place, { recursive: true })
  const parameters = [
    ...['-std=c++17', '-O2', '-fPIC', '-shared', `-DNAPI_VERSION=${interfaceVersion}`, '-w'],
    ...[`-I${join(folder, 'node_modules/node-api-headers/include')}`, `-I${join(library, 'include')}`],
    ...['tfjs_backend.cc', 'tfjs_binding.cc'].map((file) => join(own, 'binding', file)),
    ...[`-L${library}`, '-l:libtensorflow_cc.so.2', '-l:libtensorflow_framework.so.2', `-Wl,-rpath,${fromBinding}`],
    ...['-o', join(place, 'tfjs_binding.node')],
  ]
  const gone = () => new Unavailable(`there is no C++ compiler '${compiler}'`, 'install one')
  refuseCompiler(await run(compiler, parameters, gone, { folder, onLine }), compiler)
  for (const part of [join(library, 'include'), join(folder, 'node_modules/node-api-headers')])
    rmSync(part, { recursive: true })
}

/** Puts the new one in its place; where it does not work there, the former comes back. */
async function replace(folder: string, fresh: string, check: () => Promise<void>): Promise<void> {
  const former = `${folder}.former`
  rmSync(former, { recursive: true, force: true })
  if (existsSync(folder)) renameSync(folder, former)
  renameSync(fresh, folder)
  try {
    await check()
  } catch (error) {
    rmSync(folder, { recursive: true })
    if (existsSync(former)) renameSync(former, folder)
    throw error
  }
  rmSync(former, { recursive: true, force: true })
}

function openFolder(folder: string): string {
  const fresh = `${folder}.new`
  try {
    rmSync(fresh, { recursive: true, force: true })
    mkdirSync(fresh, { recursive: true })
  } catch (cause) {
    const reason = (cause as Error).message
    throw new Misconfigured(
      `${dirname(folder)} cannot be written: ${reason}`,
      'run it as the owner of the installation',
      {
        cause,
      },
    )
  }
  return fresh
}

function isThere({ folder, cuda, again }: BuildOptions): boolean {
  const built = builtIn(folder)
  const same = built?.tensorflow === tensorflowVersion && built.version === packageVersion && built.cuda === cuda
  return same && !again
}

/**
 * Builds the binding of tfjs-node against the C library of PyPI's `tensorflow` wheel. Throws Unavailable or NoRoom, with
 * the cure, where something is missing.
 */
export async function buildTensorFlow(options: BuildOptions): Promise<Built> {
  const { cuda, onStep, check } = options
  const folder = resolve(options.folder)
  if (isThere({ ...options, folder })) {
    onStep('it is there already (--again builds it anew)')
    await check()
    return builtIn(folder)!
  }
  const platform = platformOf(thisHost(), cuda)
  const tools = await findTools(options.programs)
  const fresh = openFolder(folder)
  try {
    needRoom(fresh, cuda ? room.cuda : room.cpu)
    onStep(`found ${tools.words}`)
    await fetchLibrary(fresh, platform, tools.python, options)
    onStep(`fetches ${nameOf(cuda)} ${packageVersion} from npm`)
    await fetchPackage(fresh, options, tools)
    onStep('compiles the binding')
    await compile(fresh, options, tools)
    const built: Built = { package: nameOf(cuda), version: packageVersion, tensorflow: tensorflowVersion, cuda }
    writeFileSync(recordOf(fresh), `${JSON.stringify(built, null, 2)}\n`)
    onStep('tests it')
    await replace(folder, fresh, check)
    return built
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
}
