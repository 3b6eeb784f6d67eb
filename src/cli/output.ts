import { GestaltError, InvalidDefinition } from '../errors.ts'

/** What a command line tool says: words for a person on stderr and stdout, or one JSON document for a program. */
export interface Output {
  json: boolean
  /** A line for a person; with `--json` it goes to stderr, so that stdout stays one document. */
  say(line?: string): void
  /** The result: with `--json` exactly one line of JSON, otherwise what `words` makes of it. */
  result<T>(value: T, words: (value: T) => string): void
}

export function openOutput(json: boolean): Output {
  return {
    json,
    say: (line = '') => {
      ;(json ? process.stderr : process.stdout).write(`${line}\n`)
    },
    result: (value, words) => {
      process.stdout.write(`${json ? JSON.stringify(value) : words(value)}\n`)
    },
  }
}

/** Exit codes of every command, also shown by `gestalt --help`. */
export const exitCodes = { done: 0, failed: 1, usage: 2, refused: 3, unreachable: 4 } as const

export function exitCodeOf(error: unknown): number {
  if (!(error instanceof GestaltError)) return exitCodes.failed
  if (error.code === 'unavailable') return exitCodes.unreachable
  return error.status >= 400 && error.status < 500 ? exitCodes.refused : exitCodes.failed
}

/** Why something was refused or failed, for a program. */
export function describeError(error: unknown) {
  const known = error instanceof GestaltError
  return {
    code: known ? error.code : 'unexpected',
    message: error instanceof Error ? error.message : String(error),
    ...(known ? { cure: error.cure } : {}),
    ...(error instanceof InvalidDefinition ? { errors: error.faults } : {}),
  }
}

/** Tells a person or a program why a command ended early, and returns its exit code. */
export function explain(error: unknown, json: boolean): number {
  if (json) {
    process.stdout.write(`${JSON.stringify({ error: describeError(error) })}\n`)
  } else if (error instanceof InvalidDefinition) {
    const lines = error.faults.map((fault) => `  ${fault.pointer || '/'}  ${fault.detail}`)
    process.stderr.write(`${error.message.split(':')[0]}\n${lines.join('\n')}\n`)
  } else if (error instanceof GestaltError) {
    process.stderr.write(`${error.message}\n  what to do: ${error.cure}\n`)
  } else {
    process.stderr.write(`unexpected: ${error instanceof Error ? error.stack : String(error)}\n`)
  }
  return exitCodeOf(error)
}

/** Rows under a header, columns padded; numbers are aligned by the caller. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd()
  return [line(header), ...rows.map(line)].join('\n')
}

/** 75 -> '1 min 15 s'. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}

/** 1536 -> '1.5 KiB'. */
export function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}
