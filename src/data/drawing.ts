import { createRequire } from 'node:module'
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
  /** The images, [n, h, w, c]; the drawing takes the array over. */
  bytes: Uint8Array
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

/** The one thread of this process that draws. It keeps the process alive only while something is to be drawn. */
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

  draw(order: DrawOrder): Promise<Float32Array[]> {
    const id = this.count++
    const { bytes, into } = order
    // An array that is part of a larger one cannot change hands alone.
    const whole = bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice()
    const task: DrawTask = { ...order, bytes: whole, into: [...into], id }
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject })
      this.worker.ref()
      this.worker.postMessage(task, [whole.buffer as ArrayBuffer, ...into.map((view) => view.buffer as ArrayBuffer)])
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

let drawing: Drawing | undefined

function running(): Drawing {
  if (!drawing || drawing.ended) drawing = new Drawing()
  return drawing
}

/** Starts the thread, so that it is there when the first batch is wanted. */
export function prepareDrawing(): void {
  running()
}

/** Draws outside this thread. Rejects where the thread ends; the next call starts another. */
export function drawElsewhere(order: DrawOrder): Promise<Float32Array[]> {
  return running().draw(order)
}

/** Ends the thread, if there is one; what is being drawn is rejected. */
export async function endDrawing(): Promise<void> {
  await drawing?.close()
}
