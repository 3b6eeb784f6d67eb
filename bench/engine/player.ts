import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Row } from './rows.ts'
import type { Entry } from './state.ts'

/** What one side is asked; it answers each with one line of JSON, or with `error`. */
export type Command =
  | { command: 'hello' }
  | { command: 'prepare'; row: Row; file: string; tensors: readonly Entry[]; variant: string }
  | { command: 'steps'; count: number; variant: string }
  | { command: 'peak' }
  | { command: 'release' }

export interface Player {
  name: string
  threads: number
  /** Forms of the same training that are measured one by one; the fastest counts. */
  variants(row: { loss: string }): readonly string[]
  /** Rejects with what went wrong on the other side, or when its process has ended. */
  ask<Answer>(command: object): Promise<Answer>
  end(): void
}

/** A process that computes on one engine with one number of threads. */
export function startPlayer(
  side: Pick<Player, 'name' | 'threads' | 'variants'>,
  [program, ...words]: readonly [string, ...string[]],
  environment: NodeJS.ProcessEnv,
): Player {
  const child: ChildProcessWithoutNullStreams = spawn(program, words, { env: environment })
  const waiting: { resolve(line: string): void; reject(error: Error): void }[] = []
  let complaints = ''
  const fail = (error: Error) => {
    complaints ||= error.message
    for (const { reject } of waiting.splice(0)) reject(error)
  }
  let answered = false
  child.stderr.on('data', (data) => {
    complaints = (complaints + data).slice(-2000)
    // Such as a kernel that the engine lacks. Why a process does not start is told by whoever asked it.
    if (answered) process.stderr.write(data)
  })
  createInterface({ input: child.stdout }).on('line', (line) => {
    answered = true
    waiting.shift()?.resolve(line)
  })
  child.on('error', fail)
  // A process that has ended says so by itself.
  child.stdin.on('error', () => {})
  child.on('close', (code, signal) => fail(new Error(`${side.name} ended (${code ?? signal}): ${complaints}`)))
  return {
    ...side,
    async ask(command) {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`${side.name} has ended: ${complaints}`)
      const line = new Promise<string>((resolve, reject) => waiting.push({ resolve, reject }))
      child.stdin.write(`${JSON.stringify(command)}\n`)
      const answer = JSON.parse(await line)
      if (answer.error !== undefined) throw new Error(`${side.name}: ${answer.error}`)
      return answer
    },
    end: () => child.kill(),
  }
}
