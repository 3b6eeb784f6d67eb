// The thread that draws the views of batches, so that the one that trains never does.
import { parentPort } from 'node:worker_threads'
import { type DrawView, drawViews } from './augment.ts'
import { rollDice } from './dice.ts'
import type { DrawOrder } from './drawing.ts'
import type { Answered, Asked } from './thread.ts'

/** Their tables take longer to make than a batch to draw. */
const known = new Map<string, DrawView[]>()

function drawsFor({ shape, source, views }: DrawOrder): DrawView[] {
  const key = JSON.stringify([shape, source?.shape, views])
  const found = known.get(key) ?? views.map((view) => drawViews(shape, view, source?.shape))
  known.set(key, found)
  return found
}

const numbers = ([height, width, channels]: DrawOrder['shape']) => height * width * channels

function draw(task: DrawOrder): void {
  const { shape, views, seed, step, indices, bytes, source, into } = task
  const image = numbers(shape)
  const larger = source && numbers(source.shape)
  const dice = rollDice(seed).for('augment', step)
  const draws = drawsFor(task)
  for (let i = 0; i < indices.length; i++) {
    const imageDice = dice.for(indices[i]!)
    for (const [v, drawView] of draws.entries()) {
      const [from, at] = source && views[v]!.crop ? [source.bytes, i * larger!] : [bytes!, i * image]
      drawView(from, at, into[v]!, i * image, imageDice, v)
    }
  }
}

parentPort!.on('message', ({ id, task }: Asked<DrawOrder>) => {
  draw(task)
  const result = [...task.into]
  const drawn: Answered<Float32Array[]> = { id, result }
  parentPort!.postMessage(
    drawn,
    result.map(({ buffer }) => buffer as ArrayBuffer),
  )
})
