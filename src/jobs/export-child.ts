// The process that exports a checkpoint as a file: weights under other names, or features as an ONNX graph.
import { createWriteStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { exportOnnx } from '../engine/onnx/export.ts'
import { InvalidDefinition } from '../errors.ts'
import { chosenUnits } from '../experiments/chosen.ts'
import { parseDefinition } from '../experiments/definition.ts'
import { buildFor } from '../experiments/work.ts'
import type { Learner } from '../models/method.ts'
import { putTensor, shapesOf } from '../models/state.ts'
import { exportWeights } from '../store/exported-weights.ts'
import { learnedTensors } from '../store/learned-tensors.ts'
import type { ObjectStore } from '../store/objects.ts'
import { openObjects } from '../store/open-objects.ts'
import { streamTensors, toFloats } from '../store/tensor-stream.ts'
import { type Tensor, tf } from '../tf.ts'
import { answerWorker } from './child-life.ts'
import type { FromChild, ToExportChild } from './messages.ts'

async function write(file: string, pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<FromChild> {
  await pipeline(Readable.from(pieces, { objectMode: false }), createWriteStream(file, { mode: 0o600 }))
  return { type: 'exported', size: (await stat(file)).size }
}

/** The learner of the checkpoint. */
async function restore({ definition, world, checkpoint }: ToExportChild, objects: ObjectStore): Promise<Learner> {
  const parsed = parseDefinition(definition)
  const learner = buildFor(parsed, chosenUnits(parsed), world)
  const shapes = shapesOf(learner)
  const learned = await learnedTensors(objects, checkpoint, 'the checkpoint')
  const own = (name: string) => learned.get(name)?.ours ?? ''
  const stream = streamTensors(objects, checkpoint, (name) => Object.hasOwn(shapes, own(name)))
  for await (const { tensor, bytes } of stream)
    putTensor(learner, own(tensor.name), { dtype: 'F32', shape: tensor.shape, data: toFloats(tensor, bytes) })
  return learner
}

function tapsOf(learner: Learner, asked: readonly string[]): readonly string[] {
  if (asked.length === 0) return [learner.embedding]
  const unknown = asked.filter((tap) => !Object.hasOwn(learner.taps, tap))
  if (unknown.length === 0) return asked
  const detail = `there is no tap ${unknown.map((tap) => `'${tap}'`).join(', ')}; there are: ${Object.keys(learner.taps).join(', ')}`
  throw new InvalidDefinition([{ pointer: '/tap', detail }], 'the export')
}

async function exportFeatures(task: ToExportChild, objects: ObjectStore): Promise<FromChild> {
  await tf.setBackend('cpu')
  const learner = await restore(task, objects)
  const taps = tapsOf(learner, task.taps)
  const tensors: Record<string, Tensor> = {}
  for (const [part, named] of Object.entries({ weights: learner.weights, memory: learner.memory }))
    for (const [name, tensor] of Object.entries(named))
      if (!(tensor instanceof Float32Array)) tensors[`${part}/${name}`] = tensor
  const { imageShape } = task.world
  const facts = { ...task.facts, 'gestalt.taps': taps.join(' ') }
  const features = { imageShape, tensors, encode: (images: never) => learner.encode(images, taps) }
  return write(task.file, await exportOnnx(features, facts))
}

async function exportFile(task: ToExportChild): Promise<FromChild> {
  const objects = openObjects(task.config)
  try {
    if (task.as === 'onnx') return await exportFeatures(task, objects)
    const { abilities } = chosenUnits(parseDefinition(task.definition)).method.unit
    const naming = { preset: task.names, classifies: abilities.includes('classifier') }
    return await write(task.file, await exportWeights(objects, task.checkpoint, naming, task.facts))
  } catch (error) {
    if (error instanceof InvalidDefinition) return { type: 'refused', faults: error.faults }
    throw error
  }
}

answerWorker(exportFile)
