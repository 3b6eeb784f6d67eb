// Our side of the k-means bench, told what to do by lines of JSON on standard input.
import { closeSync, openSync, readSync } from 'node:fs'
import type { EngineName } from '../../src/engine/choice.ts'
import { chooseEngine } from '../../src/engine/choose.ts'
import { rollDice } from '../../src/models/dice.ts'
import { type KMeansOptions, kMeans } from '../../src/models/math/kmeans.ts'
import { pickRows, type Rows } from '../../src/models/math/rows.ts'
import { answerLines } from '../engine/answers.ts'
import type { Command } from './rows.ts'

const [name, threads] = process.argv.slice(2)
const { engine } = await chooseEngine(name as EngineName, { threads: Number(threads) })
let points: Rows = { data: new Float32Array(), width: 1 }
let options: KMeansOptions | undefined

/** Straight into the array: a buffer beside it would count twice. */
function readPoints(file: string, count: number): Float32Array {
  const data = new Float32Array(count)
  const bytes = new Uint8Array(data.buffer)
  const handle = openSync(file, 'r')
  for (let at = 0; at < bytes.length; ) at += readSync(handle, bytes, at, Math.min(2 ** 26, bytes.length - at), null)
  closeSync(handle)
  return data
}

async function cluster() {
  const started = performance.now()
  const found = await kMeans(points, options!)
  const seconds = (performance.now() - started) / 1000
  const { inertia, empties } = found
  const maxRssBytes = process.resourceUsage().maxRSS * 1024
  return { seconds, inertia: inertia.at(-1)!, iterations: inertia.length - 1, empties, maxRssBytes }
}

async function answer(message: Command): Promise<object> {
  if (message.command === 'hello') return { version: engine.version, threads: engine.threads }
  if (message.command === 'cluster') return await cluster()
  const { n, d, k, iterations } = message.row
  points = { data: readPoints(message.file, n * d), width: d }
  options = { k, iterations, start: pickRows(points, message.start), dice: rollDice(1) }
  return {}
}

await answerLines(answer)
