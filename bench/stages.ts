// Where a training step's time goes on the engine of machine code, stage by stage, from the processor's clock:
//   npm run bench -- stages [--only NET,...] [--threads N] [--steps N] [--top N]
// Medians over the steps, on the first thread; what is not in a stage is TensorFlow.js, recording and waiting.
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { startMachine } from '../src/engine/machine/index.ts'
import { median } from './engine/report.ts'
import { rows } from './engine/rows.ts'
import { drawState } from './engine/state.ts'
import { prepareTraining } from './engine/training.ts'

const names = rows.map(({ name }) => name)
const { values } = parseArgs({
  args: process.argv.slice(3),
  options: {
    only: { type: 'string', default: names.join(',') },
    threads: { type: 'string', default: String(availableParallelism()) },
    steps: { type: 'string', default: '20' },
    top: { type: 'string', default: '12' },
  },
})
const [threads, steps, top] = [values.threads, values.steps, values.top].map(Number) as [number, number, number]
const unknown = values.only.split(',').filter((name) => !names.includes(name))
if (unknown.length > 0 || ![threads, steps, top].every((n) => Number.isInteger(n) && n >= 1)) {
  console.error(
    unknown.length > 0
      ? `no row '${unknown.join("', '")}'; there are: ${names.join(', ')}`
      : '--threads, --steps and --top take whole numbers from 1 on',
  )
  process.exit(2)
}

const engine = await startMachine({ threads, profiled: true })
const found = []
for (const row of rows.filter(({ name }) => values.only.split(',').includes(name))) {
  const training = prepareTraining(row, drawState(row))
  for (let step = 0; step < 3; step++) training.step()
  const program = engine.programs.at(-1)!
  const cycles: number[][] = program.names.map(() => [])
  const walls: number[] = []
  const [begun, clock] = [performance.now(), program.stamps[0]!]
  for (let step = 0; step < steps; step++) {
    const started = performance.now()
    training.step()
    walls.push(performance.now() - started)
    const stamps = program.stamps
    for (const [i, own] of cycles.entries()) own.push(Number(stamps[i + 1]! - stamps[i]!))
  }
  const perMillisecond = Number(program.stamps[0]! - clock) / (performance.now() - begun)
  const stages = program.names
    .map((name, i) => ({ name, milliseconds: median(cycles[i]!) / perMillisecond }))
    .sort((a, b) => b.milliseconds - a.milliseconds)
  const inStages = stages.reduce((sum, { milliseconds }) => sum + milliseconds, 0)
  const step = median(walls)
  console.log(
    `${row.name}: ${step.toFixed(2)} ms a step, ${inStages.toFixed(2)} in ${stages.length} stages with ` +
      `${program.barriers} barriers; ${(program.bytes / 2 ** 20).toFixed(0)} MiB`,
  )
  for (const { name, milliseconds } of stages.slice(0, top))
    console.log(`  ${milliseconds.toFixed(3).padStart(8)}  ${name}`)
  const round = (x: number) => Math.round(x * 1000) / 1000
  const shown = stages.slice(0, top).map((stage) => ({ ...stage, milliseconds: round(stage.milliseconds) }))
  found.push({ name: row.name, threads, milliseconds: round(step), inStages: round(inStages), stages: shown })
  training.dispose()
}
console.log(JSON.stringify({ bench: 'stages', rows: found }))
engine.dispose()
