import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { datasets } from '../src/data/index.ts'
import { evaluations } from '../src/models/evaluations/index.ts'
import { methods } from '../src/models/methods/index.ts'
import { nets } from '../src/models/nets/index.ts'

const source = resolve(import.meta.dirname, '../src')

/** From the ground up: a folder imports from itself and from those before it. */
const floors = ['data', 'models', 'experiments', 'store', 'engine', 'jobs', 'api', 'cli']
const ground = ['errors.ts', 'engines.ts', 'tf.ts', 'installation.ts', 'config.ts', 'tracing.ts']
const frontDoors = ['server.ts', 'worker.ts', 'cli', 'jobs/child.ts']

/** Inside models/, the same. */
const storeys = ['dice.ts', 'math', 'layers', 'nets', 'training', 'methods', 'evaluations']

/** Packages with one importer each. */
const importers: Record<string, RegExp> = {
  '@tensorflow/tfjs': /^(tf\.ts|engine\/)/,
  bullmq: /^jobs\//,
  '@prisma/': /^store\//,
  minio: /^store\/s3\.ts$/,
  hyparquet: /^store\/parquet\.ts$/,
  koffi: /^engine\/(machine\/memory|onnx\/cuda\/api)\.ts$/,
  sharp: /^data\/codec\.ts$/,
  webgpu: /^(engine\/webgpu\/adapters|engines)\.ts$/, // the second names the engine only
  'onnxruntime-node': /^engine\/onnx\/runtime\.ts$/,
  fastify: /^api\//,
  mercurius: /^api\//,
  'prom-client': /^api\//,
  '@opentelemetry/': /^tracing\.ts$/,
}

interface Import {
  from: string
  to: string
  typeOnly: boolean
}

const files = readdirSync(source, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
  .map((entry) => relative(source, join(entry.parentPath, entry.name)))
  .filter((file) => !file.startsWith('store/generated/'))

function importsOf(file: string): Import[] {
  const text = readFileSync(join(source, file), 'utf8')
  const pattern =
    /^(?:import|export)\s+(type\s)?[^'"\n;]*?(?:[\s\S]*?\sfrom\s+)?['"]([^'"\n]+)['"]|import\(['"]([^'"]+)['"]\)/gm
  return [...text.matchAll(pattern)].map((match) => {
    const to = (match[2] ?? match[3])!
    const inside = to.startsWith('.')
    return { from: file, to: inside ? relative(source, resolve(source, dirname(file), to)) : to, typeOnly: !!match[1] }
  })
}

const imports = files.flatMap(importsOf)
const folder = (path: string) => path.split('/')[0]!
const isFrontDoor = (path: string) => frontDoors.some((door) => path === door || path.startsWith(`${door}/`))
const floorOf = (path: string) => (isFrontDoor(path) ? floors.length : floors.indexOf(folder(path)))

describe('the house', () => {
  it('finds the imports it judges', () => {
    expect(files.length).toBeGreaterThan(40)
    expect(imports.length).toBeGreaterThan(files.length)
  })

  it('lets a folder import only from itself and from the folders before it', () => {
    const climbs = imports.filter(({ from, to }) => {
      if (!/\.ts$/.test(to) || ground.includes(to)) return false
      if (ground.includes(from)) return true
      return floorOf(to) > floorOf(from) && folder(to) !== folder(from)
    })
    expect(climbs, `floors, from the ground: ${ground.join(', ')}, ${floors.join(', ')}`).toEqual([])
  })

  it('keeps the storeys inside models/, and methods and evaluations apart from each other', () => {
    const storey = (path: string) => storeys.indexOf(path.split('/')[1] ?? '')
    const climbs = imports.filter(({ from, to, typeOnly }) => {
      if (!from.startsWith('models/') || !to.startsWith('models/') || typeOnly) return false
      const [low, high] = [storey(to), storey(from)]
      if (low < 0 || high < 0) return false
      const methodMeetsMethod = ['methods', 'evaluations'].includes(storeys[high]!) && low === high
      return low > high || (methodMeetsMethod && basename(from) !== 'index.ts')
    })
    expect(climbs, `storeys: ${storeys.join(', ')}`).toEqual([])
  })

  it('gives each outside package one importer', () => {
    const strays = imports.filter(({ from, to, typeOnly }) =>
      Object.entries(importers).some(([name, room]) => to.startsWith(name) && !room.test(from) && !typeOnly),
    )
    expect(strays).toEqual([])
  })

  it('lets only front doors read the settings, and only config.ts read the environment', () => {
    const readers = imports.filter(({ from, to, typeOnly }) => to === 'config.ts' && !typeOnly && !isFrontDoor(from))
    expect(readers.map((reader) => reader.from)).toEqual([])
    const environment = files.filter((file) => /process\.env\b/.test(readFileSync(join(source, file), 'utf8')))
    // Processes that are started hand the environment on whole; they read nothing from it.
    const passedOn = environment.filter(
      (file) => !/\.\.\.process\.env\b/.test(readFileSync(join(source, file), 'utf8')),
    )
    expect(passedOn).toEqual(['config.ts'])
  })

  it('keeps the clock and the disk out of the science', () => {
    const pattern = /\bDate\.now\(|new Date\(\)|node:fs|node:net|node:http|Math\.random\(/
    const strays = files.filter(
      (file) => file.startsWith('models/') && pattern.test(readFileSync(join(source, file), 'utf8')),
    )
    expect(strays).toEqual([])
  })

  it('lets the science wait for numbers that it reads: on a GPU they cannot be had at once', () => {
    const strays = files.filter(
      (file) =>
        file.startsWith('models/') &&
        /\b(dataSync|arraySync|bufferSync)\b/.test(readFileSync(join(source, file), 'utf8')),
    )
    expect(strays).toEqual([])
  })

  it('names no drawer after nothing', () => {
    const drawers = files.filter((file) =>
      /(^|\/)(utils?|helpers?|common|base|manager|service|types|misc)(\.ts|\/)/.test(file),
    )
    expect(drawers).toEqual([])
  })

  it('keeps a file on a few screens', () => {
    const long = files
      .map((file) => ({ file, lines: readFileSync(join(source, file), 'utf8').split('\n').length }))
      .filter(({ lines }) => lines > 400)
    expect(long).toEqual([])
  })

  it.each([
    ['methods', methods],
    ['nets', nets],
    ['evaluations', evaluations],
    ['datasets', datasets],
  ] as const)('registers the %s under their own names', (_, registry) => {
    for (const [key, unit] of Object.entries(registry)) expect((unit as { name: string }).name).toBe(key)
  })
})
