import { statfsSync } from 'node:fs'
import { NoRoom, Unavailable } from '../../errors.ts'
import { run } from './programs.ts'

/** The programs that build, as they are called. */
export interface Programs {
  python: string
  compiler: string
  npm: string
}

/** What stands ready. */
export interface Tools extends Programs {
  /** For people: which versions were found. */
  words: string
}

/** The oldest glibc that TensorFlow's wheels are made for. */
const oldestGlibc = 27
/** The oldest pip that knows wheels by the version of glibc. */
const oldestPip = [20, 3] as const

const gigabyte = 1e9

/** Where this machine runs, as wheels are named. */
export interface Platform {
  machine: 'x86_64' | 'aarch64'
  /** The 36 of glibc 2.36. */
  glibc: number
}

/** What Node knows of the machine. */
export interface Host {
  platform: string
  arch: string
  glibc: string | undefined
}

export function thisHost(): Host {
  const report = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  return { platform: process.platform, arch: process.arch, glibc: report.header.glibcVersionRuntime }
}

const elsewhere = "'npx gestalt doctor' says which engines work here"

/** Throws Unavailable where there is no such library, or none that loads. */
export function platformOf({ platform, arch, glibc }: Host, cuda: boolean): Platform {
  const machine = ({ x64: 'x86_64', arm64: 'aarch64' } as const)[arch]
  if (platform !== 'linux' || !machine)
    throw new Unavailable(
      `TensorFlow's library is built here for Linux on x64 and arm64; this is ${platform} on ${arch}`,
      elsewhere,
    )
  if (cuda && machine !== 'x86_64')
    throw new Unavailable('TensorFlow with CUDA comes for x64 only; this is arm64', `leave --cuda out; ${elsewhere}`)
  const minor = Number(/^2\.(\d+)/.exec(glibc ?? '')?.[1] ?? 0)
  if (minor < oldestGlibc)
    throw new Unavailable(
      `TensorFlow's library needs glibc 2.${oldestGlibc} or newer; this system has ${glibc ?? 'none (musl?)'}`,
      `use a system such as Debian 12 or Ubuntu 22.04, or its container image; ${elsewhere}`,
    )
  return { machine, glibc: minor }
}

const debian = (packages: string) => `on Debian and Ubuntu: apt-get install ${packages}`

async function findPip(python: string): Promise<string> {
  const absent = () =>
    new Unavailable(
      `there is no program '${python}', and TensorFlow's library is fetched with Python's pip`,
      `install Python 3 with pip (${debian('python3-pip')}), or name one with --python`,
    )
  const { code, said } = await run(python, ['-m', 'pip', '--version'], absent)
  const version = /^pip (\d+)\.(\d+)\S* .*\(python (\S+)\)/m.exec(said)
  if (code !== 0 || !version)
    throw new Unavailable(
      `'${python}' has no pip: ${said.trim().split('\n').at(-1) ?? ''}`,
      `install it (${debian('python3-pip')}), or name a Python that has it with --python`,
    )
  const [major, minor] = [Number(version[1]), Number(version[2])]
  if (major < oldestPip[0] || (major === oldestPip[0] && minor < oldestPip[1]))
    throw new Unavailable(
      `'${python}' has pip ${major}.${minor}, which does not know the wheels of TensorFlow`,
      `update it to ${oldestPip.join('.')} or newer: ${python} -m pip install --upgrade pip`,
    )
  return `pip ${major}.${minor} of Python ${version[3]}`
}

async function findCompiler(compiler: string): Promise<string> {
  const absent = () =>
    new Unavailable(
      `there is no C++ compiler '${compiler}'`,
      `install one that knows C++17 (${debian('g++')}), or name one with --compiler`,
    )
  const { code, said } = await run(compiler, ['--version'], absent)
  if (code !== 0) throw absent()
  return said.split('\n')[0]!.trim()
}

async function findNpm(npm: string): Promise<string> {
  const absent = () =>
    new Unavailable(`there is no program '${npm}'`, "install npm, which Node's own packages bring, or see to PATH")
  const { code, said } = await run(npm, ['--version'], absent)
  if (code !== 0) throw absent()
  return `npm ${said.trim().split('\n').at(-1)}`
}

/** Finds the programs. Throws Unavailable, with the cure, for the first that is missing. */
export async function findTools(programs: Programs): Promise<Tools> {
  const found = [
    await findPip(programs.python),
    await findCompiler(programs.compiler),
    await findNpm(programs.npm),
  ] as const
  return { ...programs, words: found.join(', ') }
}

/** Throws NoRoom where `folder` has less than `bytes` left; returns what there is. */
export function needRoom(folder: string, bytes: number): number {
  const { bavail, bsize } = statfsSync(folder)
  const free = bavail * bsize
  const inGigabytes = (count: number) => (count / gigabyte).toFixed(1)
  if (free < bytes)
    throw new NoRoom(
      `${folder} has ${inGigabytes(free)} GB left, and building takes ${inGigabytes(bytes)} GB`,
      'make room on that disk',
    )
  return free
}
