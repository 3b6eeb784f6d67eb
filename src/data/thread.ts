import { Worker } from 'node:worker_threads'
import { launcher } from '../installation.ts'

/** A task on its way to a thread, and what comes back of it. */
export interface Asked<Task> {
  id: number
  task: Task
}

export type Answered<Result> = { id: number; result: Result } | { id: number; error: unknown }

interface Waiting<Result> {
  resolve(result: Result): void
  reject(error: unknown): void
}

/** A thread that answers one message for each it gets. It keeps the process alive only while it has something to do. */
export class Thread<Task, Result> {
  private readonly worker: Worker
  private readonly waiting = new Map<number, Waiting<Result>>()
  private count = 0
  ended = false

  /** `name` is that of its file beside this one, `what` what it does. */
  constructor(name: string, what: string) {
    this.worker = new Worker(launcher, { argv: [`data/${name}`] })
    this.worker.on('message', (answer: Answered<Result>) => {
      const waiting = this.settle(answer.id)
      if ('error' in answer) waiting?.reject(answer.error)
      else waiting?.resolve(answer.result)
    })
    this.worker.on('error', (error) => this.end(error as Error))
    this.worker.on('exit', (code) => this.end(new Error(`the thread that ${what} ended with code ${code}`)))
    // After its listeners, each of which holds the process.
    this.worker.unref()
  }

  /** Tasks without an answer. */
  get tasks(): number {
    return this.waiting.size
  }

  /** The buffers in `handed` change hands. */
  ask(task: Task, handed: readonly ArrayBuffer[]): Promise<Result> {
    const id = this.count++
    const asked: Asked<Task> = { id, task }
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject })
      this.worker.ref()
      this.worker.postMessage(asked, [...handed])
    })
  }

  async close(): Promise<void> {
    await this.worker.terminate()
  }

  private settle(id: number): Waiting<Result> | undefined {
    const waiting = this.waiting.get(id)
    this.waiting.delete(id)
    if (this.waiting.size === 0) this.worker.unref()
    return waiting
  }

  private end(error: Error): void {
    this.ended = true
    for (const { reject } of this.waiting.values()) reject(error)
    this.waiting.clear()
  }
}
