// Quick recipes in single precision and in half, side by side:
//   npm run bench -- half [--recipe NAME,...] [--images N] [--epochs N] [--batch N] [--seeds N,...]
//     [--engine machine|webgpu] [--gpu NAME] [--native] [--precision single|half] [--save]
// On the processor (machine; default where no GPU is named) what the WebGPU engine would store in 16 bits is rounded to
// what these hold: whole recipes take minutes. On a GPU (webgpu) half precision is rounded too, numbers being stored in
// 32 bits, which any GPU can; --native stores them in 16, where the GPU has shader-f16. Each run computes in a process
// of its own; --precision takes one only. --save keeps a file for each recipe.
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseOptions } from './half/options.ts'
import { type Found, type Precision, runOne } from './half/run.ts'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const options = parseOptions(process.argv.slice(3))

function runChild(recipe: string, precision: string, seed: string): Found {
  const own = ['--child', `${precision},${seed}`, '--recipe', recipe]
  const words = [...process.execArgv, process.argv[1]!, ...process.argv.slice(2), ...own]
  const { status, stdout } = spawnSync(process.execPath, words, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (status !== 0) throw new Error(`${recipe} in ${precision} precision ended with exit code ${status}`)
  return JSON.parse(stdout.trimEnd().split('\n').at(-1)!)
}

function line({ precision, seed, steps, lastLosses, accuracies, seconds, overflows }: Found): string {
  const shares = Object.entries(accuracies).map(([name, value]) => `${name} ${value.toFixed(4)}`)
  const skipped = overflows === null ? '' : `, ${overflows} steps skipped`
  return `${precision}, seed ${seed}: ${steps} steps, mean of the last ten losses ${lastLosses.toFixed(4)}${skipped}, ${shares.join(', ')}; ${seconds} s`
}

/** Mean over the seeds of each score, in single precision and in half. */
function meansOf(rows: readonly Found[]) {
  const mean = (precision: Precision, score: string) => {
    const own = rows.filter((row) => row.precision === precision).map(({ accuracies }) => accuracies[score]!)
    return own.length > 0 ? own.reduce((a, b) => a + b, 0) / own.length : null
  }
  return Object.keys(rows[0]!.accuracies).map((score) => ({
    ...{ score, single: mean('single', score), half: mean('half', score) },
  }))
}

function runRecipe(recipe: string) {
  const { engine, native, save } = options
  const rows: Found[] = []
  for (const seed of options.seeds.split(','))
    for (const precision of options.precision.split(',')) {
      rows.push(runChild(recipe, precision, seed))
      console.log(`${recipe}, ${line(rows.at(-1)!)}`)
    }
  const means = meansOf(rows)
  for (const { score, single, half } of means)
    console.log(`${recipe}, ${score}: ${single?.toFixed(4)} in single precision, ${half?.toFixed(4)} in half`)
  const half = native ? 'native' : 'rounded'
  const result = { bench: 'half', recipe, engine, device: rows[0]!.device, half, means, rows }
  if (save) {
    const date = new Date().toISOString()
    const command = `npm run bench -- half ${process.argv.slice(3).join(' ')}`
    mkdirSync(here('results'), { recursive: true })
    const file = here(`results/half-${recipe}-${date.slice(0, 10)}.json`)
    writeFileSync(file, `${JSON.stringify({ date, command, ...result }, null, 2)}\n`)
  }
  return result
}

if (options.child) {
  const [precision, seed] = options.child.split(',') as [Precision, string]
  console.log(JSON.stringify(await runOne(options, precision, Number(seed))))
  process.exit() // whatever the engine still holds
}

const results = options.recipe.split(',').map(runRecipe)
console.log(JSON.stringify(results.length === 1 ? results[0] : { bench: 'half', recipes: results }))
