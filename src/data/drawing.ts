import { availableParallelism } from 'node:os'
import type { Augmentation } from './augment.ts'
import type { ImageShape } from './dataset.ts'
import { Thread } from './thread.ts'

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

/** An array that is part of a larger one cannot change hands alone. */
function alone(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice()
}

type Drawing = Thread<DrawOrder, Float32Array[]>

/** One for every four cores: the others belong to what trains. More than the loader's batches ahead would be idle. */
const mostThreads = Math.max(1, Math.min(4, Math.floor(availableParallelism() / 4)))

let threads: Drawing[] = []

/** The thread with the fewest orders; another one where all have some and more are allowed. */
function leastBusy(): Drawing {
  threads = threads.filter(({ ended }) => !ended)
  const [least] = [...threads].sort((a, b) => a.tasks - b.tasks)
  if (least && (least.tasks === 0 || threads.length >= mostThreads)) return least
  const started: Drawing = new Thread('drawing-thread', 'draws batches')
  threads.push(started)
  return started
}

/** Starts a thread, so that it is there when the first batch is wanted. */
export function prepareDrawing(): void {
  leastBusy()
}

/** Draws outside this thread. Rejects where the drawing thread ends; the next call starts another. */
export function drawElsewhere(order: DrawOrder): Promise<Float32Array[]> {
  const { bytes, source, into } = order
  const task: DrawOrder = {
    ...order,
    ...(bytes ? { bytes: alone(bytes) } : {}),
    ...(source ? { source: { shape: source.shape, bytes: alone(source.bytes) } } : {}),
    into: [...into],
  }
  const parts = [task.bytes, task.source?.bytes, ...into]
  return leastBusy().ask(
    task,
    parts.flatMap((part) => (part ? [part.buffer as ArrayBuffer] : [])),
  )
}

/** Ends the threads, if there are any; what is being drawn is rejected. */
export async function endDrawing(): Promise<void> {
  await Promise.all(threads.map((thread) => thread.close()))
}
