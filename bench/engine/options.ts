import { parseArgs } from 'node:util'
import { rows } from './rows.ts'

export interface Options {
  only: readonly string[]
  rounds: number
  /** Numbers of threads that are measured, each for every engine that has them. */
  threads: readonly number[]
  python: string
  save: boolean
}

function wholeNumber(text: string, option: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= 1) return value
  throw new RangeError(`--${option} takes whole numbers from 1 on, not '${text}'`)
}

/** Throws with what would have been right where an argument is not understood. */
export function parseOptions(words: readonly string[]): Options {
  const names = rows.map(({ name }) => name)
  const { values } = parseArgs({
    args: [...words],
    options: {
      only: { type: 'string', default: names.join(',') },
      rounds: { type: 'string', default: '7' },
      threads: { type: 'string', default: '1,2' },
      python: { type: 'string', default: 'python3' },
      save: { type: 'boolean', default: false },
    },
  })
  const only = values.only.split(',')
  const unknown = only.filter((name) => !names.includes(name))
  if (unknown.length > 0) throw new RangeError(`no row '${unknown.join("', '")}'; there are: ${names.join(', ')}`)
  return {
    only,
    rounds: wholeNumber(values.rounds, 'rounds'),
    threads: values.threads.split(',').map((text) => wholeNumber(text, 'threads')),
    python: values.python,
    save: values.save,
  }
}
