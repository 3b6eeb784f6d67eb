// What a bare Linux machine with a GPU needs to run the GPU bench, as one file: Node, WebGPU's library, the Vulkan loader,
// and our code with the packages that it uses. Written on Linux x86-64.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { softwareVersion } from '../../src/config.ts'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))
/** What the device that it is carried to takes at most. */
const most = 64 * 2 ** 20

/**
 * The Vulkan loader, and what NVIDIA's driver and Node want beside the C library: a machine without a display often lacks
 * the libraries of X, without which the driver does not start.
 */
const libraries = [
  ...['libvulkan.so.1', 'libstdc++.so.6', 'libgcc_s.so.1'],
  ...['libX11.so.6', 'libXext.so.6', 'libxcb.so.1', 'libXau.so.6', 'libXdmcp.so.6', 'libbsd.so.0', 'libmd.so.0'],
  ...['libEGL.so.1', 'libGLdispatch.so.0'],
]
const libraryFolders = ['/usr/lib/x86_64-linux-gnu', '/lib/x86_64-linux-gnu', '/usr/lib64', '/usr/lib']

/** Packages with libraries of their own that the bench never loads, and this one's tools. */
const leftOut = ['webgpu', 'onnxruntime-node', 'koffi', 'sharp', 'esbuild']

/** A program or library without what only debuggers read. */
function strip(file: string): void {
  chmodSync(file, 0o755)
  try {
    execFileSync('strip', ['--strip-unneeded', file])
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new Error('there is no program strip, without which the bundle is too large: install binutils', {
      cause: error,
    })
  }
}

function copyWebGpu(folder: string): string {
  const root = dirname(createRequire(import.meta.url).resolve('webgpu'))
  const library = 'dist/linux-x64/dawn.node'
  mkdirSync(dirname(join(folder, library)), { recursive: true })
  for (const file of ['package.json', 'index.js', 'LICENSE.md', library])
    copyFileSync(join(root, file), join(folder, file))
  strip(join(folder, library))
  return (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version
}

/** Those of the libraries that this machine has. */
function copyLibraries(folder: string): void {
  mkdirSync(folder)
  for (const name of libraries) {
    const file = libraryFolders.map((from) => join(from, name)).find(existsSync)
    if (file) copyFileSync(file, join(folder, name))
    else console.error(`without ${name}: it is not on this machine`)
  }
}

async function copyCode(folder: string): Promise<void> {
  await build({
    entryPoints: [here('../gpu.ts')],
    ...{ outdir: folder, bundle: true, splitting: true, format: 'esm', platform: 'node', target: 'node20' },
    ...{ minifySyntax: true, minifyWhitespace: true, external: leftOut, logLevel: 'error' },
    // Packages in CommonJS that are bundled want it.
    banner: { js: "import{createRequire as cr}from'node:module';const require=cr(import.meta.url);" },
  })
  mkdirSync(join(folder, 'gpu'), { recursive: true })
  cpSync(here('peer.py'), join(folder, 'gpu/peer.py'))
}

function writeManifest(folder: string, webgpu: string): void {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
  const lines = files.map((file) => {
    const sum = createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 16)
    return `${String(statSync(file).size).padStart(10)}  ${sum}  ${relative(folder, file)}`
  })
  const versions = `Gestalt ${softwareVersion()}, Node ${process.versions.node}, webgpu ${webgpu}`
  const head = `The GPU bench of ${versions}\nbytes, start of the SHA-256, file`
  writeFileSync(join(folder, 'MANIFEST'), `${head}\n${lines.join('\n')}\n`)
}

/** Writes the bundle; its size in bytes. Throws where it became larger than it may be. */
export async function writeBundle(path: string): Promise<{ file: string; bytes: number }> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Error(`a bundle for Linux on x86-64 has this machine's Node in it, which is for ${process.platform}`)
  const file = resolve(path)
  const scratch = mkdtempSync(join(tmpdir(), 'gpu-bundle-'))
  const folder = join(scratch, 'gestalt-gpu-bench')
  try {
    mkdirSync(join(folder, 'bin'), { recursive: true })
    copyFileSync(process.execPath, join(folder, 'bin/node'))
    strip(join(folder, 'bin/node'))
    const version = copyWebGpu(join(folder, 'node_modules/webgpu'))
    copyLibraries(join(folder, 'lib'))
    await copyCode(join(folder, 'app'))
    // The package's own version is read from here.
    writeFileSync(join(folder, 'package.json'), `{"type":"module","version":"${softwareVersion()}"}\n`)
    copyFileSync(here('run.sh'), join(folder, 'run.sh'))
    writeManifest(folder, version)
    const words = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '-C', scratch, '-cf', '-']
    const shell = 'tar "$@" | gzip > "$OUT"'
    execFileSync('sh', ['-c', shell, 'tar', ...words, 'gestalt-gpu-bench'], { env: { ...process.env, OUT: file } })
  } finally {
    rmSync(scratch, { recursive: true })
  }
  const bytes = statSync(file).size
  if (bytes > most) throw new Error(`${file} has ${bytes} bytes, more than the ${most} that it may have`)
  return { file, bytes }
}
