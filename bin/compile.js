// Compiles the sources to dist/, file by file, without checking types: what has changed since it was compiled last, as
// the files' times tell. Several processes may do so at once.
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { threadId } from 'node:worker_threads'

const here = fileURLToPath(import.meta.url)
const root = dirname(dirname(here))
const [sources, compiled] = ['src', 'dist'].map((folder) => join(root, folder))
/** What was compiled: the time of each source, and which compiler it was. */
const recordFile = join(compiled, 'compiled.json')

/** The files below a folder of the sources with their times, milliseconds. */
function timesIn(folder = '', times = {}) {
  for (const entry of readdirSync(join(sources, folder), { withFileTypes: true })) {
    const path = folder ? `${folder}/${entry.name}` : entry.name
    if (entry.isDirectory()) timesIn(path, times)
    else times[path] = statSync(join(sources, path)).mtimeMs
  }
  return times
}

const compiler = () => createHash('sha256').update(readFileSync(here)).digest('hex')

function readRecord() {
  try {
    const record = JSON.parse(readFileSync(recordFile, 'utf8'))
    if (record.compiler === compiler()) return record.times
  } catch {
    // There is none, or a broken one: everything is compiled.
  }
  return {}
}

const targetOf = (path) => join(compiled, path.replace(/\.ts$/, '.js'))

/** Puts a file in place at once: another process may be reading it. */
function place(target, write) {
  mkdirSync(dirname(target), { recursive: true })
  const made = `${target}.${process.pid}.${threadId}.new`
  write(made)
  renameSync(made, target)
}

async function compile(path, { transform }) {
  const [source, target] = [join(sources, path), targetOf(path)]
  if (!path.endsWith('.ts')) return place(target, (file) => copyFileSync(source, file))
  const text = readFileSync(source, 'utf8')
  const options = { loader: 'ts', format: 'esm', target: 'node20', sourcemap: 'external', sourcefile: source }
  const { code, map } = await transform(text, options)
  const relative = code.replace(/((?:from|import)\s*\(?\s*")(\.[^"\n]+)\.ts"/g, '$1$2.js"')
  place(`${target}.map`, (file) => writeFileSync(file, map))
  const name = target.slice(dirname(target).length + 1)
  place(target, (file) => writeFileSync(file, `${relative}//# sourceMappingURL=${name}.map\n`))
}

/** Makes dist/ what the sources are. Throws what the file system says where it cannot be written. */
export async function compileChanged() {
  const [before, times] = [readRecord(), timesIn()]
  const changed = Object.keys(times).filter((path) => before[path] !== times[path])
  const gone = Object.keys(before).filter((path) => !(path in times))
  if (changed.length + gone.length === 0) return
  const esbuild = await import('esbuild')
  await Promise.all(changed.map((path) => compile(path, esbuild)))
  await esbuild.stop()
  for (const path of gone) for (const more of ['', '.map']) rmSync(targetOf(path) + more, { force: true })
  place(recordFile, (file) => writeFileSync(file, JSON.stringify({ compiler: compiler(), times })))
}

if (process.argv[1] && realpathSync(process.argv[1]) === here) {
  rmSync(compiled, { recursive: true, force: true })
  await compileChanged()
}
