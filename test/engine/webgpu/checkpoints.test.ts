import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startMachine, whyNotHere } from '../../../src/engine/machine/index.ts'
import { startOnnx } from '../../../src/engine/onnx/index.ts'
import { startWebGpu } from '../../../src/engine/webgpu/index.ts'
import { parseDefinition } from '../../../src/experiments/definition.ts'
import { createMemoryContext, type MemoryContextOptions, memoryBytes } from '../../../src/experiments/memory-context.ts'
import { perform } from '../../../src/experiments/perform.ts'
import type { Checkpoint } from '../../../src/models/checkpoint.ts'
import { tf } from '../../../src/tf.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../../swiftshader.ts'
import { difference } from './plain.ts'

const methods = [
  { name: 'npid', dimension: 8, negatives: 'all' },
  // An autoencoder of convolutions.
  { name: 'swwae' },
]

const others = whyNotHere() ? ['onnx'] : ['onnx', 'machine']

const definitionOf = (method: object) =>
  parseDefinition({
    ...{ version: 1, name: 'moved', seed: 3, net: { name: 'small', widths: [4, 6] }, method },
    dataset: { name: 'shapes', images: 120, testImages: 20, classes: 4, height: 8, width: 8, clutter: 0 },
    training: { epochs: 4, batchSize: 40, checkpointEverySteps: 7 },
    evaluations: [],
  })

async function performed(method: object, backend: string, options: MemoryContextOptions = {}) {
  await tf.setBackend(backend)
  const context = createMemoryContext(memoryBytes(), options)
  await perform(definitionOf(method), context)
  return context.recorded
}

type Recorded = Awaited<ReturnType<typeof performed>>

/** The checkpoint that a run which is stopped as soon as it has been taken up leaves: what it was taken up with. */
async function takenUp(method: object, backend: string, checkpoints: Recorded['checkpoints']): Promise<Checkpoint> {
  await tf.setBackend(backend)
  const stop = new AbortController()
  const context = createMemoryContext(memoryBytes(), { checkpoints, stop: stop.signal })
  const { info } = context.log
  context.log.info = (text) => {
    info(text)
    if (text.startsWith('goes on')) stop.abort('paused')
  }
  expect(await perform(definitionOf(method), context)).toBe('stopped')
  return context.recorded.checkpoints.at(-1)!.checkpoint
}

const lossesOf = ({ metrics }: Recorded, after = 0) =>
  metrics.flatMap(({ step, values: { loss } }) => (loss === undefined || step <= after ? [] : [loss]))

const lastOf = ({ checkpoints }: Recorded) => checkpoints.find(({ final }) => final)!.checkpoint

/** Of losses, and of all that is learned and remembered, relative to the largest number of a tensor. */
const bound = 1e-4

describe.runIf(hasSwiftShader)('a run that moves', () => {
  const wholes = new Map<string, Promise<Recorded>>()
  const engines: { dispose(): void }[] = []

  beforeAll(async () => {
    onlySwiftShader()
    engines.push(await startWebGpu({ choice: swiftShaderChoice }), await startOnnx({ threads: 1 }))
    if (others.includes('machine')) engines.push(await startMachine({ threads: 1 }))
  })

  afterAll(() => {
    for (const engine of engines.toReversed()) engine.dispose()
  })

  /** The run on one engine. */
  function whole(method: { name: string }, backend: string): Promise<Recorded> {
    const key = `${method.name} ${backend}`
    if (!wholes.has(key)) wholes.set(key, performed(method, backend))
    return wholes.get(key)!
  }

  const moves = others.flatMap((other) => [['webgpu', other] as const, [other, 'webgpu'] as const])
  const all = methods.flatMap((method) => moves.map(([from, to]) => ({ method, from, to })))

  it.each(all)('from $from to $to goes on as it was: $method.name', async ({ method, from, to }) => {
    const straight = await whole(method, from)
    const checkpoints = straight.checkpoints.filter(({ final }) => !final)
    expect(checkpoints.map(({ checkpoint }) => checkpoint.step)).toEqual([7])
    const { step, tensors } = await takenUp(method, to, checkpoints)
    expect({ step, tensors }).toEqual({ step: 7, tensors: checkpoints[0]!.checkpoint.tensors })

    const moved = await performed(method, to, { checkpoints })
    expect(lossesOf(moved)).toHaveLength(5)
    expect(difference(lossesOf(moved), lossesOf(straight, 7))).toBeLessThan(bound)
    expect(moved.log.map(({ text }) => text)).toContain(
      `the checkpoint was made on engine '${from}', this is '${to}': the last digits may differ`,
    )
    const [got, wanted] = [lastOf(moved).tensors, lastOf(straight).tensors]
    expect(Object.keys(got)).toEqual(Object.keys(wanted))
    for (const [name, { data }] of Object.entries(wanted))
      expect(difference(got[name]!.data as ArrayLike<number>, data as ArrayLike<number>), name).toBeLessThan(bound)
  })
})
