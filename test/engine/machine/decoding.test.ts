import { describe, expect, it } from 'vitest'
import { startMachine, whyNotHere } from '../../../src/engine/machine/index.ts'
import { rollDice } from '../../../src/models/dice.ts'
import type { Learner, Method } from '../../../src/models/method.ts'
import { swwae } from '../../../src/models/methods/swwae.ts'
import { whatWhere } from '../../../src/models/methods/what-where.ts'
import { conv, flatten, pool, relu } from '../../../src/models/nets/kinds.ts'
import { buildSequence } from '../../../src/models/nets/sequence.ts'
import { tf } from '../../../src/tf.ts'
import { buildSmall, defaultsOf } from '../../models/tiny.ts'

const halving = () => buildSmall({ widths: [4, 6] }, [14, 14, 3], 2)

/** Pools that overlap, after a strided convolution. */
const overlapping = () =>
  buildSequence(
    [
      conv({ name: 'conv1', channels: 4, kernel: 5, stride: 2, padding: 2, bias: true, drawing: 'he' }),
      relu('relu1'),
      pool('pool1', 'max', 3, 2),
      flatten('flat'),
    ],
    [14, 14, 3],
    2,
  )

/** The loss of a batch and of the same one after a small step down its gradient. */
function descend(learner: Learner, stage: string): number[] {
  const values = Float32Array.from({ length: 3 * 14 * 14 * 3 }, (_, i) => Math.sin(0.37 * i) ** 2)
  return [0, 1].map(() =>
    tf.tidy(() => {
      const views = [tf.tensor4d(values, [3, 14, 14, 3])]
      const batch = { views, labels: Int32Array.of(1, 0, -1), indices: Int32Array.of(0, 1, 2) }
      const { value, grads } = tf.variableGrads(
        () => learner.objective(batch, rollDice(1), stage).loss,
        Object.values(learner.weights),
      )
      for (const weight of Object.values(learner.weights)) {
        const gradient = grads[weight.name]
        if (gradient) weight.assign(tf.sub(weight, tf.mul(gradient, 1e-3)))
      }
      return value.dataSync()[0]!
    }),
  )
}

describe.skipIf(whyNotHere())('decoding as machine code', () => {
  it.each([
    ['SWWAE-all', whatWhere, {}, halving, 'joint'],
    ['SWWAE-layerwise, decoders alone', whatWhere, { losses: 'layerwise' }, halving, 'layerwise'],
    ['SAE-first', whatWhere, { pathway: 'sae', losses: 'first' }, halving, 'joint'],
    ['SWWAE over pools that overlap', whatWhere, {}, overlapping, 'joint'],
    ['SAE over pools that overlap', whatWhere, { pathway: 'sae', targets: 'still' }, overlapping, 'joint'],
    ['the original SWWAE without supervision', swwae, { supervision: 'none' }, halving, ''],
  ] as const)('leaves nothing to another engine and finds its losses: %s', async (_, method, given, net, stage) => {
    const run = () => {
      const unit = method as unknown as Method
      const parameters = defaultsOf(unit.parameters, given)
      const world = { net: net(), imageShape: [14, 14, 3] as const, size: 9, classes: 2, seed: 4 }
      const learner = unit.build(parameters, world)
      const losses = descend(learner, stage)
      learner.dispose()
      return losses
    }
    await tf.setBackend('cpu')
    const wanted = run()
    const engine = await startMachine({ threads: 1 })
    try {
      const found = run()
      const { runs, programRuns, fallbacks } = engine.stats()
      expect([programRuns, engine.unwritten, fallbacks]).toEqual([runs, {}, {}])
      for (const [i, loss] of wanted.entries()) expect(found[i]! / loss).toBeCloseTo(1, 4)
      expect(found[1]).toBeLessThan(found[0]!)
    } finally {
      engine.dispose()
    }
  })
})
