// Our side of the engine bench: one engine with so many threads, told what to do by lines of JSON on standard input.
import type { EngineName } from '../../src/engine/choice.ts'
import { chooseEngine } from '../../src/engine/choose.ts'
import { tf } from '../../src/tf.ts'
import { answerLines } from './answers.ts'
import type { Command } from './player.ts'
import { readState } from './state.ts'
import { prepareTraining, type Training } from './training.ts'

/** Side of the square matrices whose product is taken for the machine's peak. */
const peakSide = 2048
const peakTrials = 8

const [name, threads] = process.argv.slice(2)
const { engine } = await chooseEngine(name as EngineName, { threads: Number(threads) })
let training: Training | undefined

/** GFLOP/s of the best of several matrix products. */
function measurePeak(): number {
  const [a, b] = [tf.randomNormal([peakSide, peakSide]), tf.randomNormal([peakSide, peakSide])] as [
    tf.Tensor,
    tf.Tensor,
  ]
  let best = Number.POSITIVE_INFINITY
  for (let trial = 0; trial < peakTrials; trial++) {
    const started = performance.now()
    const sum = tf.tidy(() => tf.sum(tf.matMul(a, b)))
    sum.dataSync()
    sum.dispose()
    best = Math.min(best, performance.now() - started)
  }
  tf.dispose([a, b])
  return (2 * peakSide ** 3) / best / 1e6
}

function release() {
  training?.dispose()
  training = undefined
}

function answer(message: Command): object {
  switch (message.command) {
    case 'hello':
      return { version: engine.version, threads: engine.threads }
    case 'peak':
      return { gflops: measurePeak() }
    case 'prepare': {
      release()
      const prepared = prepareTraining(message.row, readState(message.file, message.tensors))
      training = prepared
      return { losses: [prepared.step(), prepared.step()] }
    }
    case 'steps': {
      const started = performance.now()
      for (let step = 0; step < message.count; step++) training!.step()
      return { milliseconds: (performance.now() - started) / message.count }
    }
    case 'release':
      release()
      return {}
  }
}

await answerLines(answer)
