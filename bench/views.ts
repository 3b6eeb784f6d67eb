// What pictures cost before they reach a net:
//   npm run bench -- views [--seconds N]
// Views are drawn in one thread, pictures decoded by sharp in libuv's. Seconds are those of one processor core, as the
// system counts them, so that other work on the machine stretches them less. `heldUp` is how long each decoded picture
// kept the thread that would train from its work, in milliseconds. The last line is JSON.
import { existsSync, readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import sharp from 'sharp'
import { type Augmentation, drawViews } from '../src/data/augment.ts'
import type { ImageShape } from '../src/data/dataset.ts'
import { decodePictures } from '../src/data/decoding.ts'
import { rollDice } from '../src/data/dice.ts'

const { values } = parseArgs({
  args: process.argv.slice(3),
  options: { seconds: { type: 'string', default: '3' } },
})
const seconds = Number(values.seconds)
if (!(seconds > 0)) {
  console.error('--seconds takes a number above 0')
  process.exit(2)
}

const jitter = { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 }
const crop = { smallest: 0.08, largest: 1, ratio: 4 / 3 }
const blur = { probability: 0.5, smallest: 0.1, largest: 2 }

interface Row {
  name: string
  shape: ImageShape
  source?: ImageShape
  view: Augmentation
}

const rows: Row[] = [
  {
    name: 'grey 28, shift and light',
    shape: [28, 28, 1],
    view: { shift: 2, flip: 0.5, gamma: 1, light: 0.5, gain: 0.4 },
  },
  { name: 'colour 32, shift and flip', shape: [32, 32, 3], view: { shift: 4, flip: 0.5 } },
  { name: 'colour 32, crop and flip', shape: [32, 32, 3], view: { crop, flip: 0.5 } },
  { name: 'colour 32, crop, flip, jitter, grey', shape: [32, 32, 3], view: { crop, flip: 0.5, jitter, grey: 0.2 } },
  { name: 'colour 96, the same and blur', shape: [96, 96, 3], view: { crop, flip: 0.5, jitter, grey: 0.2, blur } },
  { name: 'colour 224 of 256, crop and flip', shape: [224, 224, 3], source: [256, 256, 3], view: { crop, flip: 0.5 } },
  {
    name: 'colour 224 of 256, crop, flip, jitter, grey',
    shape: [224, 224, 3],
    source: [256, 256, 3],
    view: { crop, flip: 0.5, jitter, grey: 0.2 },
  },
  {
    name: 'colour 224 of 256, the same and blur',
    shape: [224, 224, 3],
    source: [256, 256, 3],
    view: { crop, flip: 0.5, jitter, grey: 0.2, blur },
  },
]

const numbers = (shape: ImageShape) => shape.reduce((product, side) => product * side, 1)
const noise = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 7919) % 251)

/** Counts the processor time of this thread alone, where the system tells (Linux); else the time that it was busy. */
function threadSeconds() {
  const file = `/proc/self/task/${process.pid}/schedstat`
  const busy = performance.eventLoopUtilization()
  if (!existsSync(file)) return () => performance.eventLoopUtilization(busy).active / 1000
  const read = () => Number(readFileSync(file, 'utf8').split(' ')[0]) / 1e9
  const began = read()
  return () => read() - began
}

/** Counts the processor time of this process from now on. */
function processorSeconds() {
  const began = process.cpuUsage()
  return () => {
    const { user, system } = process.cpuUsage(began)
    return (user + system) / 1e6
  }
}

function drawFor({ shape, source, view }: Row): number {
  const [from, to] = [numbers(source ?? shape), numbers(shape)]
  const images = 16
  const bytes = noise(images * from)
  const out = new Float32Array(images * to)
  const draw = drawViews(shape, view, source)
  const dice = rollDice(0).for('augment')
  let drawn = 0
  const round = () => {
    for (let i = 0; i < images; i++) draw(bytes, i * from, out, i * to, dice.for(drawn++))
  }
  for (const began = performance.now(); performance.now() - began < 300; ) round()
  drawn = 0
  const spent = processorSeconds()
  for (const began = performance.now(); performance.now() - began < seconds * 1000; ) round()
  return drawn / spent()
}

/** A photograph's worth of detail: smooth, with some noise. */
async function photograph(height: number, width: number): Promise<Buffer> {
  const small = sharp(noise(48 * 64 * 3), { raw: { width: 64, height: 48, channels: 3 } })
  return small.resize({ width, height, kernel: 'cubic' }).jpeg({ quality: 90 }).toBuffer()
}

async function decodeFor(height: number, width: number, shape: ImageShape) {
  const batch = Array.from({ length: 64 }, () => ({ name: 'a picture', bytes: new Uint8Array() as Uint8Array }))
  const file = await photograph(height, width)
  for (const picture of batch) picture.bytes = file
  await decodePictures(batch, { shape, fit: 'crop' })
  let decoded = 0
  const [spent, here] = [processorSeconds(), threadSeconds()]
  for (const began = performance.now(); performance.now() - began < seconds * 1000; decoded += batch.length)
    await decodePictures(batch, { shape, fit: 'crop' })
  return {
    name: `JPEG ${width} x ${height} (${(file.length / 1024).toFixed(0)} KiB) to ${shape[0]}`,
    imagesPerSecond: Math.round(decoded / spent()),
    heldUp: Number(((1000 * here()) / decoded).toFixed(3)),
  }
}

const results: { name: string; imagesPerSecond: number; heldUp?: number }[] = []
function tell(row: (typeof results)[number]): void {
  results.push(row)
  const held = row.heldUp === undefined ? '' : `, ${row.heldUp} ms of this thread each`
  console.log(`${row.name.padEnd(46)} ${String(row.imagesPerSecond).padStart(8)} images a core second${held}`)
}
for (const row of rows) tell({ name: row.name, imagesPerSecond: Math.round(drawFor(row)) })
for (const [height, width, side] of [
  [375, 500, 256],
  [375, 500, 64],
  [1200, 1600, 256],
] as const)
  tell(await decodeFor(height, width, [side, side, 3]))
console.log(JSON.stringify({ bench: 'views', rows: results }))
