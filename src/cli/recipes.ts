import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Config } from '../config.ts'
import { nearestName } from '../data/nearest-name.ts'
import { NotFound } from '../errors.ts'
import type { Comparison } from '../experiments/expected.ts'
import { installation } from '../installation.ts'
import { type Client, openClient } from './client.ts'
import { duration, exitCodes, type Output, table } from './output.ts'
import { askedToStop } from './serve.ts'
import { startStack } from './stack.ts'
import { followRun } from './watch.ts'

/** Which recipes to run: those named, or all quick ones. */
export interface RecipeOptions {
  names: readonly string[]
  quick: boolean
  /** In place of the recipes' own. */
  seeds: readonly number[] | undefined
}

/** One recipe that was run, held against its expectations. */
interface Outcome {
  recipe: string
  seed: number
  runId: string
  state: string
  seconds: number
  failure: { message: string; cure: string } | null
  expectations: Comparison[]
}

const folder = join(installation, 'recipes')

/** The recipes to run, by name. Throws NotFound where one is not there. */
export async function chooseRecipes({ names, quick }: Pick<RecipeOptions, 'names' | 'quick'>): Promise<string[]> {
  const all = (await readdir(folder)).filter((file) => file.endsWith('.json')).map((file) => basename(file, '.json'))
  for (const name of names)
    if (!all.includes(name)) {
      const near = nearestName(name, all)
      throw new NotFound(
        `there is no recipe '${name}'`,
        `${near ? `did you mean '${near}'? ` : ''}there are: ${all.join(', ')}`,
      )
    }
  if (names.length > 0) return [...names]
  if (!quick) throw new NotFound('no recipe is named', `name some, or give --quick; there are: ${all.join(', ')}`)
  return all.filter((name) => name.endsWith('-quick')).sort()
}

interface Finished {
  run: {
    state: string
    startedAt: string | null
    finishedAt: string
    failure: Outcome['failure']
    expectations: Comparison[]
  }
}

const finished = `query ($id: ID!) { run(id: $id) {
  state startedAt finishedAt failure { message cure } expectations { of value tolerance source measured met }
} }`

async function runRecipe(client: Client, output: Output, recipe: string, seed: number | undefined): Promise<Outcome> {
  const definition = JSON.parse(await readFile(join(folder, `${recipe}.json`), 'utf8'))
  if (seed !== undefined) definition.seed = seed
  const accepted = await client.post<{ runIds: string[] }>('/v1/experiments', definition)
  const runId = accepted.runIds[0]!
  output.say(`${recipe}, seed ${definition.seed}: run ${runId}`)
  await followRun(client, runId, process.stderr)
  const { run } = await client.query<Finished>(finished, { id: runId })
  const seconds = run.startedAt ? (Date.parse(run.finishedAt) - Date.parse(run.startedAt)) / 1000 : 0
  const { state, failure, expectations } = run
  if (failure) output.say(`  failed: ${failure.message}\n  what to do: ${failure.cure}`)
  return { recipe, seed: definition.seed, runId, state, seconds: Math.round(seconds * 10) / 10, failure, expectations }
}

function isGood({ state, expectations }: Outcome): boolean {
  return state === 'succeeded' && expectations.every(({ met, tolerance }) => met === true || tolerance === null)
}

const short = (value: number | null) => (value === null ? 'unknown' : String(Number(value.toPrecision(4))))

function inRows(outcomes: readonly Outcome[]): string {
  const verdict = (met: boolean | null) => (met === null ? '' : met ? 'as expected' : 'OFF')
  const rows = outcomes.flatMap(({ recipe, seed, seconds, state, expectations }) => [
    [recipe, String(seed), duration(seconds), state, '', '', ''],
    ...expectations.map(({ of, value, tolerance, measured, met }) => [
      `  ${of}`,
      '',
      '',
      '',
      `${short(value)}${tolerance === null || tolerance === undefined ? '' : ` +- ${short(tolerance)}`}`,
      short(measured),
      verdict(met),
    ]),
  ])
  return table(['recipe', 'seed', 'time', 'state', 'expected', 'measured', ''], rows)
}

/** A server that answers already, or a stack of our own. */
async function findService(config: Config, output: Output) {
  const answers = await fetch(`${config.url}/readyz`).then(
    ({ ok }) => ok,
    () => false,
  )
  if (answers) return { url: config.url, broken: new Promise<never>(() => {}), stop: async () => {} }
  return startStack(config, output.say)
}

/**
 * Runs recipes one after the other through the service (the one that answers, or one of its own), and holds what they
 * come to against their `expected`. Returns the exit code: 1 where one fails or is off.
 */
export async function runRecipes(config: Config, output: Output, options: RecipeOptions): Promise<number> {
  const recipes = await chooseRecipes(options)
  const halt = askedToStop()
  const service = await findService(config, output)
  const client = openClient({ url: service.url, token: config.token })
  const ending = Promise.race([halt, service.broken])
  const outcomes: Outcome[] = []
  try {
    for (const recipe of recipes)
      for (const seed of options.seeds ?? [undefined]) {
        const outcome = await Promise.race([runRecipe(client, output, recipe, seed), ending])
        if (typeof outcome === 'string') {
          output.say(`stopping: ${outcome}`)
          return outcome === 'interrupted' ? 130 : exitCodes.failed
        }
        outcomes.push(outcome)
      }
  } finally {
    await client.close()
    await service.stop()
  }
  const good = outcomes.every(isGood)
  output.result({ good, recipes: outcomes }, () => inRows(outcomes))
  return good ? exitCodes.done : exitCodes.failed
}
