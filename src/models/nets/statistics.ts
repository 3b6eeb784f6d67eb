import { setImmediate } from 'node:timers/promises'
import type { Dataset } from '../../data/dataset.ts'
import { toUnit } from '../../data/pixels.ts'
import { computeRecorded, type Tensor, tf } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import type { Net } from './net.ts'

/** Batches that are looked at: at a running momentum of 0.9 the values before weigh 1.5 % in the end. */
const batches = 40
const batchSize = 128

/**
 * Lets the running statistics of a new net become those of clean images; until then its evaluation mode says nothing
 * of what training will see. Where it throws (`stop` is raised), the statistics may be half way.
 */
export async function measureStatistics(
  net: Net,
  corpus: Dataset,
  dice: Dice,
  watch: { stop?: AbortSignal },
): Promise<void> {
  const order = dice.permutation(corpus.size)
  const size = Math.min(batchSize, corpus.size)
  for (let batch = 0; batch < batches; batch++) {
    watch.stop?.throwIfAborted()
    const pixels = await corpus.read(
      Int32Array.from({ length: size }, (_, i) => order[(batch * size + i) % order.length]!),
    )
    tf.tidy(() => {
      net.forward(tf.tensor4d(toUnit(pixels.data), [size, ...pixels.shape]), [net.plan.top], true)
    })
    computeRecorded()
    await setImmediate()
  }
}

/** Runs `work`; where it throws, the net's memory is put back as it was. */
export async function orRestoreMemory<Result>(net: Net, work: () => Promise<Result>): Promise<Result> {
  const before: Record<string, Tensor> = {}
  for (const [name, variable] of Object.entries(net.memory)) before[name] = tf.clone(variable)
  try {
    return await work()
  } catch (error) {
    for (const [name, variable] of Object.entries(net.memory)) variable.assign(before[name]!)
    throw error
  } finally {
    tf.dispose(before)
  }
}

/** Runs `work` and puts the net's memory back as it was. */
export async function restoringMemory<Result>(net: Net, work: () => Promise<Result>): Promise<Result> {
  const before: Record<string, Tensor> = {}
  for (const [name, variable] of Object.entries(net.memory)) before[name] = tf.clone(variable)
  try {
    return await work()
  } finally {
    for (const [name, variable] of Object.entries(net.memory)) variable.assign(before[name]!)
    tf.dispose(before)
  }
}
