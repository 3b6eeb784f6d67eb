import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { pathToFileURL } from 'node:url'
import { Worker } from 'node:worker_threads'
import type { Augmentation } from './augment.ts'
import type { ImageShape } from './dataset.ts'
import type { Drawn, DrawTask } from './drawing-thread.ts'

/** Views of one batch to draw; the numbers depend on (seed, step, index) alone. */
export interface DrawOrder {
  shape: ImageShape
  views: readonly Augmentation[]
  seed: number
  step: number
  /** Which images of the dataset, [n]. */
  indices: Int32Array
  /** The images, [n, h, w, c]; the drawing takes the array over. Absent where all views are cut out of larger ones. */
  bytes?: Uint8Array
  /** The same images in a larger size, for views with a crop; taken over too. */
  source?: { shape: ImageShape; bytes: Uint8Array }
  /** Where the views go, one array [n, h, w, c] each; the drawing takes them over and gives them back. */
  into: readonly Float32Array[]
}

interface Waiting {
  resolve(views: Float32Array[]): void
  reject(error: Error): void
}

const fromSource = import.meta.url.endsWith('.ts')

/** Sources need the loader in every thread; it is named by its full path so that any working directory does. */
function startThread(): Worker {
  if (!fromSource) return new Worker(new URL('./drawing-thread.js', import.meta.url))
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx/package.json'))
  const loader = new URL('dist/esm/api/index.mjs', tsx).href
  const file = new URL('./drawing-thread.ts', import.meta.url).href
  const code = `import { register } from ${JSON.stringify(loader)}; register(); await import(${JSON.stringify(file)})`
  return new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`))
}

/** An array that is part of a larger one cannot change hands alone. */
function alone(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice()
}

/** A thread that draws. It keeps the process alive only while something is to be drawn. */
class Drawing {
  private readonly worker = startThread()
  private readonly waiting = new Map<number, Waiting>()
  private count = 0
  ended = false

  constructor() {
    this.worker.on('message', ({ id, into }: Drawn) => {
      this.settle(id)?.resolve(into)
    })
    this.worker.on('error', (error) => this.end(error as Error))
    this.worker.on('exit', (code) => this.end(new Error(`the thread that draws batches ended with code ${code}`)))
    // After its listeners, each of which holds the process.
    this.worker.unref()
  }

  /** Orders that are not drawn yet. */
  get orders(): number {
    return this.waiting.size
  }

  draw(order: DrawOrder): Promise<Float32Array[]> {
    const id = this.count++
    const { bytes, source, into } = order
    const task: DrawTask = {
      ...order,
      ...(bytes ? { bytes: alone(bytes) } : {}),
      ...(source ? { source: { shape: source.shape, bytes: alone(source.bytes) } } : {}),
      into: [...into],
      id,
    }
    const handed = [task.bytes, task.source?.bytes, ...into].flatMap((part) =>
      part ? [part.buffer as ArrayBuffer] : [],
    )
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject })
      this.worker.ref()
      this.worker.postMessage(task, handed)
    })
  }

  async close(): Promise<void> {
    await this.worker.terminate()
  }

  private settle(id: number): Waiting | undefined {
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

/** One for every four cores: the others belong to what trains. More than the loader's batches ahead would be idle. */
const mostThreads = Math.max(1, Math.min(4, Math.floor(availableParallelism() / 4)))

let threads: Drawing[] = []

/** The thread with the fewest orders; another one where all have some and more are allowed. */
function leastBusy(): Drawing {
  threads = threads.filter(({ ended }) => !ended)
  const [least] = [...threads].sort((a, b) => a.orders - b.orders)
  if (least && (least.orders === 0 || threads.length >= mostThreads)) return least
  const started = new Drawing()
  threads.push(started)
  return started
}

/** Starts a thread, so that it is there when the first batch is wanted. */
export function prepareDrawing(): void {
  leastBusy()
}

/** Draws outside this thread. Rejects where the drawing thread ends; the next call starts another. */
export function drawElsewhere(order: DrawOrder): Promise<Float32Array[]> {
  return leastBusy().draw(order)
}

/** Ends the threads, if there are any; what is being drawn is rejected. */
export async function endDrawing(): Promise<void> {
  await Promise.all(threads.map((thread) => thread.close()))
}
