import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type BuildOptions, buildTensorFlow, builtIn } from '../../../src/engine/native/build.ts'
import { type Host, needRoom, type Programs, platformOf, thisHost } from '../../../src/engine/native/requirements.ts'
import { Unavailable } from '../../../src/errors.ts'

/** A program that does what a shell script says. */
function program(name: string, script: string): string {
  const file = join(mkdtempSync(join(tmpdir(), 'gestalt-build-')), name)
  writeFileSync(file, `#!/bin/sh\n${script}\n`)
  chmodSync(file, 0o755)
  return file
}

const version = 'echo "pip 23.0.1 from /lib/pip (python 3.11)"'

/** pip as far as the build asks for it: the fourth word after --target is where to. */
const pip = (install: string) => program('python3', `[ "$3" = --version ] && { ${version}; exit; }\n${install}`)

const library = `
mkdir -p "$5/tensorflow/include/tensorflow/c" "$5/tensorflow/python" "$5/keras" "$5/tensorflow-2.21.0.dist-info"
touch "$5/tensorflow/libtensorflow_cc.so.2" "$5/tensorflow/libtensorflow_framework.so.2"
touch "$5/tensorflow/include/tensorflow/c/c_api.h"
echo "$@" >> "$(dirname "$0")/asked"
[ -z "$TMPDIR" ] && exit 9
cat > "$5/tensorflow-2.21.0.dist-info/METADATA" <<END
Requires-Dist: numpy>=1.26.0
Requires-Dist: nvidia-cublas-cu12<13.0,>=12.5.3.2; extra == "and-cuda"
Requires-Dist: nvidia-cudnn-cu12<10.0,>=9.3.0.75; extra == "and-cuda"
Requires-Dist: tensorflow-io-gcs-filesystem>=0.23.1; extra == "gcs-filesystem"
END`

const packages = `
[ "$1" = --version ] && { echo 11.0.0; exit; }
mkdir -p node_modules/@tensorflow/tfjs-node/binding node_modules/@tensorflow/tfjs-node-gpu/binding
mkdir -p node_modules/@tensorflow/tfjs node_modules/node-api-headers`

const compiling = `
[ "$1" = --version ] && { echo "c++ 12.2.0"; exit; }
while [ "$1" != -o ]; do shift; done
echo compiled > "$2"`

const working: Programs = {
  python: pip(library),
  npm: program('npm', packages),
  compiler: program('c++', compiling),
}

function build(given: Partial<Omit<BuildOptions, 'programs'>> & { programs?: Partial<Programs> } = {}) {
  const folder = join(mkdtempSync(join(tmpdir(), 'gestalt-engines-')), 'tensorflow')
  const steps: string[] = []
  const options = { cuda: false, again: false, folder, check: async () => {}, ...given }
  const programs = { ...working, ...given.programs }
  const built = buildTensorFlow({ ...options, programs, onStep: (step) => steps.push(step) })
  return { folder: options.folder, steps, built }
}

const linux: Host = { platform: 'linux', arch: 'x64', glibc: '2.36' }

describe("the build of TensorFlow's engine", () => {
  it('keeps the libraries, the package without a tfjs of its own, and the binding', async () => {
    const { folder, built, steps } = build()
    expect(await built).toEqual(builtIn(folder))
    expect(await built).toMatchObject({ package: '@tensorflow/tfjs-node', tensorflow: '2.21.0', cuda: false })
    expect(readdirSync(join(folder, 'libraries')).sort()).toEqual(['tensorflow', 'tensorflow-2.21.0.dist-info'])
    expect(readdirSync(join(folder, 'libraries/tensorflow')).sort()).toEqual([
      'libtensorflow_cc.so.2',
      'libtensorflow_framework.so.2',
    ])
    expect(existsSync(join(folder, 'node_modules/@tensorflow/tfjs'))).toBe(false)
    const binding = join(folder, 'node_modules/@tensorflow/tfjs-node/lib/napi-v8/tfjs_binding.node')
    expect(readFileSync(binding, 'utf8')).toBe('compiled\n')
    expect(existsSync(`${folder}.new`)).toBe(false)
    expect(steps.map((step) => step.split(' ')[0])).toEqual(['found', 'fetches', 'fetches', 'compiles', 'tests'])
  })

  it('fetches with CUDA what the wheel asks for, for systems up to this one', async () => {
    const python = pip(library)
    const { built } = build({ cuda: true, programs: { python } })
    expect(await built).toMatchObject({ package: '@tensorflow/tfjs-node-gpu', cuda: true })
    const asked = readFileSync(join(python, '../asked'), 'utf8').trim().split('\n')
    expect(asked).toHaveLength(2)
    expect(asked[0]).toMatch(/ tensorflow==2\.21\.0$/)
    expect(asked[0]).toContain(`--platform manylinux_2_${thisHost().glibc!.split('.')[1]}_x86_64 `)
    expect(asked[1]).toMatch(/ nvidia-cublas-cu12<13\.0,>=12\.5\.3\.2 nvidia-cudnn-cu12<10\.0,>=9\.3\.0\.75$/)
  })

  it('does nothing where it is there, and replaces it where that is asked for', async () => {
    const { folder, built } = build()
    await built
    const mark = join(folder, 'mark')
    writeFileSync(mark, '')
    const second = build({ folder, programs: { python: '/nowhere/python3' } })
    await second.built
    expect(second.steps).toEqual([expect.stringMatching(/^it is there already/)])
    await build({ folder, again: true }).built
    expect(existsSync(mark)).toBe(false)
  })

  it('leaves what was there where the new one does not work', async () => {
    const { folder, built } = build()
    await built
    const check = () => Promise.reject(new Unavailable('it computes wrongly', 'use another'))
    await expect(build({ folder, cuda: true, check }).built).rejects.toThrow('it computes wrongly')
    expect(builtIn(folder)).toMatchObject({ cuda: false })
    expect(readdirSync(join(folder, '..'))).toEqual(['tensorflow'])
  })

  const saying = (name: string, words: string) =>
    program(name, `[ "$1" = --version ] && { echo 1.0; exit; }\necho "${words}" >&2\nexit 1`)

  it.each<[string, Partial<Programs>, RegExp, RegExp]>([
    ['Python is missing', { python: '/nowhere/python3' }, /no program '.*python3'/, /apt-get install python3-pip/],
    [
      'Python has no pip',
      { python: program('python3', 'echo "$0: No module named pip" >&2; exit 1') },
      /has no pip: .*No module named pip/,
      /apt-get install python3-pip/,
    ],
    [
      'pip is old',
      { python: program('python3', 'echo "pip 19.3 from /lib (python 3.7)"') },
      /has pip 19\.3/,
      /20\.3 or newer: .* -m pip install --upgrade pip/,
    ],
    ['a compiler is missing', { compiler: '/nowhere/c++' }, /no C\+\+ compiler '.*c\+\+'/, /apt-get install g\+\+/],
    ['npm is missing', { npm: '/nowhere/npm' }, /no program '.*npm'/, /install npm/],
    [
      'PyPI is out of reach',
      {
        python: pip(`
echo "WARNING: Retrying after connection broken by 'NewConnectionError(...): [Errno -3] name resolution'" >&2
echo "ERROR: No matching distribution found for tensorflow-cpu==2.21.0" >&2
exit 1`),
      },
      /pip does not reach PyPI: .*NewConnectionError/,
      /pip config set global\.index-url/,
    ],
    [
      'PyPI shows nothing',
      { python: pip('echo "ERROR: Could not find a version that satisfies it (from versions: none)"; exit 1') },
      /finds no wheel of TensorFlow 2\.21\.0/,
      /see to the network/,
    ],
    [
      'a mirror lacks the wheel',
      { python: pip('echo "ERROR: No matching distribution found for tensorflow-cpu==2.21.0"; exit 1') },
      /lacks a wheel: .*tensorflow-cpu==2\.21\.0/,
      /pip config list/,
    ],
    [
      'the certificate is unknown',
      { python: pip('echo "[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer"; exit 1') },
      /does not trust the certificate/,
      /PIP_CERT/,
    ],
    [
      'the wheel holds no library',
      { python: pip('mkdir -p "$5/tensorflow"') },
      /has no libtensorflow_cc\.so\.2/,
      /serves the original/,
    ],
    [
      "npm's registry is out of reach",
      { npm: saying('npm', 'npm error code ENOTFOUND\nnpm error network registry') },
      /npm does not reach its registry: .*ENOTFOUND/,
      /npm config get registry/,
    ],
    [
      'the compiler is too old',
      { compiler: saying('c++', "error: unrecognized command line option '-std=c++17'") },
      /does not compile the binding: error: unrecognized/,
      /g\+\+ 8, clang 7 or newer; --compiler names another/,
    ],
    [
      'the compiler has no library',
      { compiler: saying('c++', "a.cc:1:10: fatal error: 'vector' file not found") },
      /does not compile the binding: fatal error: 'vector'/,
      /brings the C\+\+ library/,
    ],
  ])('says what is missing, and the cure, where %s', async (_, programs, message, cure) => {
    const { folder, built } = build({ programs })
    await expect(built).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(message),
      cure: expect.stringMatching(cure),
    })
    expect(readdirSync(join(folder, '..'))).toEqual([])
  })

  it('says that the disk is full, before and meanwhile', async () => {
    const python = pip('echo "ERROR: Could not install packages: [Errno 28] No space left on device"; exit 1')
    await expect(build({ programs: { python } }).built).rejects.toMatchObject({ code: 'no-room' })
    expect(() => needRoom(tmpdir(), 1e18)).toThrow(/GB left, and building takes 1000000000\.0 GB/)
  })

  it('says where the library does not exist or does not load', () => {
    expect(platformOf(linux, true)).toEqual({ machine: 'x86_64', glibc: 36 })
    expect(platformOf({ ...linux, arch: 'arm64' }, false)).toEqual({ machine: 'aarch64', glibc: 36 })
    const refused: [Partial<Host>, boolean, RegExp][] = [
      [{ platform: 'darwin', arch: 'arm64' }, false, /this is darwin on arm64/],
      [{ platform: 'win32' }, false, /this is win32/],
      [{ arch: 'arm64' }, true, /CUDA comes for x64 only/],
      [{ glibc: '2.26' }, false, /needs glibc 2\.27 or newer; this system has 2\.26/],
      [{ glibc: undefined }, false, /has none \(musl\?\)/],
    ]
    for (const [host, cuda, words] of refused) expect(() => platformOf({ ...linux, ...host }, cuda)).toThrow(words)
  })

  it('says that a folder cannot be written', async () => {
    const place = mkdtempSync(join(tmpdir(), 'gestalt-engines-'))
    writeFileSync(join(place, 'file'), '')
    await expect(build({ folder: join(place, 'file/tensorflow') }).built).rejects.toMatchObject({
      code: 'misconfigured',
      cure: expect.stringMatching(/owner of the installation/),
    })
  })
})
