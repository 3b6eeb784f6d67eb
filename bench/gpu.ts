// Training steps, k-means and the card's own rates on a GPU, beside PyTorch (eager, CUDA) where python3 has it:
//   npm run bench -- gpu [--only TEXT,...] [--engine NAME] [--gpu NAME] [--tiny] [--python PATH] [--save]
//   npm run bench -- gpu --bundle FILE.tar.gz      writes what runs on a machine without Node, npm or a network
// Each row computes in a process of its own, one at a time, with batch sizes that double until one does not fit or
// brings nothing. A step uploads its batch on either side; ours reads each loss, one step behind. --tiny: shapes so small
// that SwiftShader can do it, which shows that all starts, and measures nothing.
import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { childEnvironment, engineNames } from '../src/config.ts'
import type { Task } from './gpu/child.ts'
import { compare, fastestOf, header, line, type Peer, type Precision, type Rates, type Told } from './gpu/report.ts'
import { costOf, type Row, rows, tinyRows } from './gpu/rows.ts'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))
/** A row that says nothing for so long is ended. */
const patienceSeconds = 180

const { values: given } = parseArgs({
  args: process.argv.slice(3),
  options: {
    only: { type: 'string', default: '' },
    engine: { type: 'string', default: 'webgpu' },
    gpu: { type: 'string' },
    tiny: { type: 'boolean', default: false },
    python: { type: 'string', default: 'python3' },
    bundle: { type: 'string' },
    save: { type: 'boolean', default: false },
    child: { type: 'string' },
  },
})

/** The lines of JSON that a process prints, until it ends or is silent for too long; how it ended where that was early. */
async function listen(command: string, words: readonly string[], hear: (found: Record<string, unknown>) => void) {
  const env = { ...process.env, ...childEnvironment(availableParallelism(), { onGpu: true }) }
  const child = spawn(command, words, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  const timer = setTimeout(() => child.kill('SIGKILL'), patienceSeconds * 1000)
  const ended = new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => resolve(error.message))
    child.on('close', (code, signal) =>
      resolve(code === 0 ? undefined : `it ended with ${signal ?? `exit code ${code}`}`),
    )
  })
  for await (const text of createInterface({ input: child.stdout })) {
    timer.refresh()
    if (text.startsWith('{')) hear(JSON.parse(text))
  }
  const how = await ended
  clearTimeout(timer)
  return how
}

async function runChild(what: Task['what'], hear: (found: Record<string, unknown>) => void) {
  const task = { what, engine: given.engine, gpu: given.gpu, tiny: given.tiny, threads: availableParallelism() }
  const script = [...process.execArgv, process.argv[1]!, 'gpu', '--child', JSON.stringify(task)]
  return listen(process.execPath, script, hear)
}

async function measureOurs(row: Row): Promise<Told> {
  const told: Told = { steps: [] }
  const how = await runChild(row, (found) => {
    if ('imagesPerSecond' in found) told.steps.push(found as never)
    else Object.assign(told, found)
  })
  if (how) told.error ??= how
  return told
}

async function measureOurRates(): Promise<Rates & { device?: string; version?: string; error?: string }> {
  const rates: Rates & { device?: string; version?: string; error?: string } = { matmulTflops: null, copyGBs: null }
  const how = await runChild('rates', (found) => {
    if ('engine' in found) Object.assign(rates, found.engine)
    else Object.assign(rates, found)
  })
  if (how) rates.error ??= how
  return rates
}

type PeerTask = Omit<Row, 'batches'> & { batch?: number | undefined; weights: number }

interface PeerFound {
  version?: string
  device?: string
  rates?: Record<Precision, number> & { copyGBs: number }
  rows: Map<string, Peer>
  error?: string
}

/** PyTorch at the batch sizes that were fastest here. */
async function measurePeer(tasks: readonly PeerTask[]): Promise<PeerFound> {
  const found: PeerFound = { rows: new Map() }
  const how = await listen(given.python, [here('gpu/peer.py'), JSON.stringify({ tasks, tiny: given.tiny })], (told) => {
    const { name, precision, complaint } = told as { name?: string; precision?: Precision; complaint?: string }
    if (complaint) console.error(`PyTorch: ${complaint}`)
    else if (name && precision) found.rows.set(name, { ...found.rows.get(name), [precision]: told })
    else Object.assign(found, told)
  })
  if (how) found.error ??= how
  return found
}

async function measure() {
  const wanted = given.only.toLowerCase().split(',')
  const chosen = (given.tiny ? tinyRows : rows).filter(({ name }) =>
    wanted.some((text) => name.toLowerCase().includes(text)),
  )
  if (chosen.length === 0) {
    console.error(`no row has '${given.only}' in its name; there are: ${rows.map(({ name }) => name).join('; ')}`)
    process.exit(2)
  }
  const ours = await measureOurRates()
  if (ours.error) console.error(ours.error)
  if (ours.device === undefined) process.exit(1)
  console.log(`${given.engine} ${ours.version} on ${ours.device}`)
  const told: [Row, Told][] = []
  for (const row of chosen) {
    const own = await measureOurs(row)
    told.push([row, own])
    console.log(line(compare(row, own, {}, ours)).split('\n')[0])
    if (own.error) console.error(`  ${own.error}`)
    if (own.steps.length === 0 && own.seconds === undefined) process.exitCode = 1
  }
  const tasks = told.map(([row, { steps }]) => ({
    ...row,
    batch: fastestOf(steps)?.batch,
    weights: costOf(row).weights,
  }))
  const peer = await measurePeer(tasks)
  if (peer.error) console.error(`without PyTorch: ${peer.error}`)
  const matmulTflops = Math.max(ours.matmulTflops ?? 0, peer.rates?.fp32 ?? 0) || null
  const copyGBs = Math.max(ours.copyGBs ?? 0, peer.rates?.copyGBs ?? 0) || null
  const results = told.map(([row, own]) => compare(row, own, peer.rows.get(row.name) ?? {}, { matmulTflops, copyGBs }))
  console.log(`\n${header}\n${results.map(line).join('\n')}`)
  const rates = { matmulTflops: ours.matmulTflops, copyGBs: ours.copyGBs, torch: peer.rates ?? null }
  return {
    ...{ bench: 'gpu', device: ours.device, engine: given.engine, tiny: given.tiny, rates, rows: results },
    versions: { node: process.versions.node, engine: ours.version, torch: peer.version ?? null },
  }
}

if (given.child) {
  const { runChild } = await import('./gpu/child.ts')
  await runChild(JSON.parse(given.child))
  process.exit() // whatever an engine still holds
} else if (given.bundle) {
  const { writeBundle } = await import('./gpu/bundle.ts')
  console.log(JSON.stringify({ bench: 'gpu', bundle: await writeBundle(given.bundle) }))
} else {
  if (!(engineNames as readonly string[]).includes(given.engine)) {
    console.error(`no engine '${given.engine}'; there are: ${engineNames.join(', ')}`)
    process.exit(2)
  }
  const result = await measure()
  if (given.save) {
    const date = new Date().toISOString()
    const command = `npm run bench -- gpu ${process.argv.slice(3).join(' ')}`
    mkdirSync(here('results'), { recursive: true })
    writeFileSync(
      here(`results/gpu-${date.slice(0, 10)}.json`),
      `${JSON.stringify({ date, command, ...result }, null, 2)}\n`,
    )
  }
  console.log(JSON.stringify(result))
}
