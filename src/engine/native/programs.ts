import { spawn } from 'node:child_process'
import { NoRoom, type Unavailable } from '../../errors.ts'

export interface RunOptions {
  folder?: string
  /** Added to the environment. */
  variables?: Record<string, string>
  /** Hears what the program says, line by line. */
  onLine?(line: string): void
  signal?: AbortSignal
}

/** What a program said and how it ended. */
export interface Ended {
  code: number | null
  said: string
}

/** A kind of failure that the words of a program give away, and what it means. */
export interface Symptom {
  words: RegExp
  error(line: string): Error
}

/** Runs a program to its end. Throws `absent` where there is none of that name. */
export function run(
  program: string,
  parameters: readonly string[],
  absent: () => Unavailable,
  { folder, variables, onLine, signal }: RunOptions = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const environment = { ...process.env, ...variables }
    const child = spawn(program, parameters, {
      cwd: folder,
      env: environment,
      signal,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let said = ''
    const hear = (text: string) => {
      said += text
      const line = text.split(/[\r\n]+/).findLast((part) => part.trim() !== '')
      if (line) onLine?.(line.trim())
    }
    child.stdout.setEncoding('utf8').on('data', hear)
    child.stderr.setEncoding('utf8').on('data', hear)
    child.on('error', (error: NodeJS.ErrnoException) =>
      reject(error.code === 'ENOENT' || error.code === 'EACCES' ? absent() : error),
    )
    child.on('close', (code) => resolve({ code, said }))
  })
}

const full: Symptom = {
  words: /No space left on device|ENOSPC|Disk quota exceeded/i,
  error: (line) => new NoRoom(`the disk is full: ${line}`, 'make room, and start again'),
}

/** Throws what the first symptom means that is found in the words of a program that failed; otherwise `other`. */
export function refuse({ code, said }: Ended, symptoms: readonly Symptom[], other: (line: string) => Error): void {
  if (code === 0) return
  const lines = said.split(/[\r\n]+/).map((line) => line.trim())
  for (const { words, error } of [full, ...symptoms]) {
    const line = lines.find((text) => words.test(text))
    if (line) throw error(line)
  }
  throw other(lines.findLast((line) => line !== '') ?? `it ended with code ${code}`)
}
