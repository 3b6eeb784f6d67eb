// A set of many small images: how fast it is added, how fast and in how much memory it is read in random order, and
// how long the engine waits for it while `small` is trained:
//   npm run bench -- shards [--images N] [--formats ppm,jpeg] [--seconds S] [--folder DIR]
// The images are written below the folder (about 2.1 KB each) and removed at the end. With S3_ENDPOINT and the like the
// shards go to that bucket instead.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import sharp from 'sharp'
import { readConfig } from '../src/config.ts'
import type { ByteSource } from '../src/data/dataset.ts'
import { images } from '../src/data/images.ts'
import { openLoader } from '../src/data/loader.ts'
import { writePortable } from '../src/data/portable-map.ts'
import { manifestPath, setsFolder } from '../src/data/set-manifest.ts'
import { shapes } from '../src/data/shapes.ts'
import { tarEnd, tarEntry } from '../src/data/tar.ts'
import { chooseEngine } from '../src/engine/choose.ts'
import { parseDefinition } from '../src/experiments/definition.ts'
import { createMemoryContext, memoryBytes } from '../src/experiments/memory-context.ts'
import { perform } from '../src/experiments/perform.ts'
import { datasetBytes } from '../src/store/dataset-bytes.ts'
import { newId } from '../src/store/id.ts'
import { openObjects } from '../src/store/open-objects.ts'
import { addingLimits, storeSet } from '../src/store/set-adding.ts'

const { values } = parseArgs({
  args: process.argv.slice(3),
  options: {
    images: { type: 'string', default: '1000000' },
    formats: { type: 'string', default: 'ppm,jpeg' },
    seconds: { type: 'string', default: '30' },
    folder: { type: 'string', default: tmpdir() },
  },
})
const formats = { ppm: { side: 32, channels: 1 as const }, jpeg: { side: 48, channels: 3 as const } }
type Format = keyof typeof formats
const wanted = values.formats.split(',')
const [count, seconds] = [Number(values.images), Number(values.seconds)]
if (!wanted.every((name) => name in formats) || !(count >= 1000) || !(seconds > 0)) {
  console.error(`--formats: ${Object.keys(formats).join(',')}; --images from 1000 on; --seconds above 0`)
  process.exit(2)
}

const batchSize = 128
/** Different images; the others repeat them. */
const different = 4096
const classes = 16
const home = mkdtempSync(join(values.folder, 'gestalt-shards-'))
mkdirSync(home, { recursive: true })
const objects = openObjects(readConfig({ ...process.env, GESTALT_HOME: home }))
const bytes = datasetBytes(objects, [], { copies: true })

/** Drawn figures, as files. */
async function drawFiles(format: Format): Promise<Uint8Array[]> {
  const { side, channels } = formats[format]
  const parameters = {
    images: different,
    testImages: 1,
    classes,
    height: side,
    width: side,
    channels,
    clutter: 2,
    noise: 0.02,
    seed: 0,
  }
  const { train } = await shapes.open(parameters, memoryBytes())
  const files: Uint8Array[] = []
  for (let i = 0; i < different; i++) {
    const { data } = await train.read([i])
    const raw = { width: side, height: side, channels }
    files.push(
      format === 'ppm'
        ? writePortable({ height: side, width: side, channels }, data)
        : await sharp(data, { raw }).jpeg({ quality: 85 }).toBuffer(),
    )
  }
  return files
}

async function* archive(format: Format): AsyncGenerator<Uint8Array> {
  const files = await drawFiles(format)
  const extension = { ppm: 'pgm', jpeg: 'jpg' }[format]
  for (let at = 0; at < count; at += 256) {
    const entries: Uint8Array[] = []
    for (let i = at; i < Math.min(at + 256, count); i++)
      entries.push(tarEntry(`${i % classes}/${i}.${extension}`, files[i % different]!))
    yield Buffer.concat(entries)
  }
  yield tarEnd
}

/** The largest resident memory while something is done, in MiB. */
async function watched<T>(work: () => Promise<T>): Promise<{ result: T; rss: number }> {
  let rss = process.memoryUsage.rss()
  const timer = setInterval(() => {
    rss = Math.max(rss, process.memoryUsage.rss())
  }, 100)
  try {
    return { result: await work(), rss: Math.round(rss / 2 ** 20) }
  } finally {
    clearInterval(timer)
  }
}

async function add(name: Format) {
  const archives = (async function* () {
    yield { name, stream: archive(name) }
  })()
  const options = { layout: 'folders', check: 'header', skipDamaged: false } as const
  const began = performance.now()
  const { manifest } = await storeSet(objects, { id: newId(), name }, { archives }, options, {
    limits: addingLimits,
    onImages: (done) => done % 100_000 === 0 && console.log(`  ${name}: ${done} images are in`),
  })
  await objects.put(`datasets/${manifestPath(name)}`, Buffer.from(JSON.stringify(manifest)))
  return { rate: count / ((performance.now() - began) / 1000), manifest }
}

const dataset = (name: Format) => ({
  ...formats[name],
  name: 'images' as const,
  set: name,
  fit: 'crop' as const,
  testShare: 0.001,
})

/**
 * Images that come out of the loader in a shuffled order, where nothing is done with them: a second, and the time of
 * processors that each takes, which says more than the rate where the machine has other work.
 */
async function read(name: Format): Promise<{ rate: number; cpu: number }> {
  const { name: _, ...parameters } = dataset(name)
  const { train } = await images.open(parameters, bytes)
  const loader = openLoader({ dataset: train, batchSize, seed: 1 })
  for (let step = 0; step < 8; step++) await loader.next()
  const began = performance.now()
  const before = process.cpuUsage()
  let batches = 0
  while (performance.now() - began < seconds * 1000) {
    await loader.next()
    batches++
  }
  const rate = (batches * batchSize) / ((performance.now() - began) / 1000)
  const { user, system } = process.cpuUsage(before)
  await loader.return(undefined as never)
  return { rate, cpu: (user + system) / (batches * batchSize) }
}

/** Training of `small` for some seconds: the rates that it reports, once it is warm. */
async function train(name: Format, source: ByteSource) {
  const halt = new AbortController()
  const context = createMemoryContext(source, { stop: halt.signal })
  const rates: number[] = []
  const waits: number[] = []
  const began = performance.now()
  const report = context.metrics.report
  context.metrics.report = (step, given) => {
    report(step, given)
    const age = performance.now() - began
    if (given.imagesPerSecond !== undefined && age > seconds * 200) {
      rates.push(given.imagesPerSecond)
      waits.push(given.waitShare!)
    }
    if (age > seconds * 1000) halt.abort('cancelled')
  }
  const definition = parseDefinition({
    version: 1,
    name: 'shards',
    dataset: dataset(name),
    net: { name: 'small', widths: [16, 32, 64] },
    method: { name: 'npid', dimension: 16, negatives: 256, negativesFor: 'batch', loss: 'infonce' },
    training: {
      epochs: 1000,
      batchSize,
      optimizer: { name: 'sgd', learningRate: 0.03 },
      checkpointEverySteps: 1_000_000,
    },
  })
  await perform(definition, context)
  const mean = (numbers: number[]) => numbers.reduce((sum, value) => sum + value, 0) / numbers.length
  return { imagesPerSecond: mean(rates), waitShare: mean(waits) }
}

/** A source that has every image in memory already: what the engine does alone. */
function oneImage(name: Format): ByteSource {
  const { side, channels } = formats[name]
  const file = writePortable({ height: side, width: side, channels }, new Uint8Array(side * side * channels).fill(99))
  return { ...bytes, read: async (path, range) => (range ? fill(file, range) : bytes.read(path)) }
}

/** Images follow each other at one distance: a header, then their bytes in whole blocks. */
function fill(file: Uint8Array, { start, end }: { start: number; end: number }): Uint8Array {
  if (end - start === file.length) return file
  const span = new Uint8Array(end - start)
  const stride = 512 + Math.ceil(file.length / 512) * 512
  for (let at = 0; at + file.length <= span.length; at += stride) span.set(file, at)
  return span
}

const rows = []
try {
  const { engine } = await chooseEngine('auto', { threads: availableParallelism() })
  for (const name of wanted as Format[]) {
    const adding = await watched(() => add(name))
    const { rate, manifest } = adding.result
    const reading = await watched(() => read(name))
    const alone = name === 'ppm' ? await train(name, oneImage(name)) : undefined
    const training = await watched(() => train(name, bytes))
    const row = {
      ...{ format: name, images: count, ...formats[name], bytes: manifest.bytes, shards: manifest.shards },
      engine: engine.name,
      addedPerSecond: Math.round(rate),
      addingRss: adding.rss,
      readPerSecond: Math.round(reading.result.rate),
      readCpuMicroseconds: Math.round(reading.result.cpu),
      readingRss: reading.rss,
      trainedPerSecond: Math.round(training.result.imagesPerSecond),
      waitShare: Math.round(training.result.waitShare * 1000) / 1000,
      trainingRss: training.rss,
      ...(alone ? { trainedAlonePerSecond: Math.round(alone.imagesPerSecond) } : {}),
    }
    rows.push(row)
    console.log(
      `${name}: added ${row.addedPerSecond}/s in ${row.addingRss} MiB; read shuffled ${row.readPerSecond}/s (${row.readCpuMicroseconds} us of a core each) in ${row.readingRss} MiB; ` +
        `trained ${row.trainedPerSecond}/s, waited ${(row.waitShare * 100).toFixed(1)} %, ${row.trainingRss} MiB`,
    )
    for await (const { key } of objects.list(`datasets/${setsFolder}/${name}/`)) await objects.remove(key)
  }
} finally {
  rmSync(home, { recursive: true, force: true })
}
console.log(JSON.stringify({ bench: 'shards', rows }))
process.exit(0)
