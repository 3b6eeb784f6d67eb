import { InvalidDefinition, TooLarge, Unavailable } from '../../errors.ts'
import { type Tensor, type Tensor4D, tf } from '../../tf.ts'
import { RecordingBackend } from '../recording/backend.ts'
import type { Computer } from '../recording/computer.ts'
import { registerKernels } from '../recording/index.ts'
import { known, type Value } from '../recording/record.ts'
import { forAnyBatch, type Recorded } from './any-batch.ts'
import { lowerGraph } from './computer.ts'
import type { Constant, Model, Node } from './emitter.ts'
import { encodeFile } from './encode.ts'
import { traces } from './kernels/index.ts'

/** What images become features by. */
export interface Features {
  imageShape: readonly [height: number, width: number, channels: number]
  /** Activations by tap, each of n rows. */
  encode(images: Tensor4D): Record<string, Tensor>
  /** What it computes with, by the names that it has in the file. */
  tensors: Record<string, Tensor>
}

/** The graph's input: images [batch, height, width, channels] in [0, 1]. */
export const inputName = 'images'

/** Two numbers of images that nothing else is likely to be as large as. */
const batches = [11, 13] as const

/** What an ONNX file may hold. */
const largestFile = 2 ** 31 - 1

const backendName = 'gestalt-export'

function neverComputes(): never {
  throw new Unavailable(
    'these features are not one graph: a number is read while they are computed',
    'export the weights as safetensors, or another tap',
  )
}

/** Records, and computes nothing. */
const recorder: Computer = { synchronous: true, refusal: neverComputes, compile: neverComputes }

let backend: RecordingBackend | undefined

/** It stays once it is there: tensors that were moved to it can be used and disposed of later. */
function openRecorder(): RecordingBackend {
  if (backend) return backend
  const made = new RecordingBackend(recorder, (kernel) => {
    throw new Unavailable(`the kernel ${kernel} has no form in ONNX here`, 'export the weights as safetensors')
  })
  registerKernels(backendName, traces)
  tf.registerBackend(backendName, () => made, 0)
  backend = made
  return made
}

interface Root {
  tap: string
  value: Value
  shape: readonly number[]
}

/** The value of a tensor, which may have to come from another backend. */
const heldBy = (recording: RecordingBackend, { dataId }: tf.TensorInfo): Value => recording.data.get(dataId).value!

const leaf = (i: number) => `i${i}`

/** The graph under the names of the file; `roots` that are leaves are not computed by any node. */
function record(features: Features, images: number, recording: RecordingBackend): Recorded {
  const [height, width, channels] = features.imageShape
  const shape: [number, number, number, number] = [images, height, width, channels]
  const made: Tensor[] = []
  const input = tf.tensor4d(new Float32Array(shape.reduce((a, b) => a * b)), shape)
  try {
    const found = features.encode(input)
    made.push(...Object.values(found))
    const roots: Root[] = Object.entries(found).map(([tap, tensor]) => ({
      ...{ tap, shape: tensor.shape },
      value: heldBy(recording, tensor),
    }))
    const computed = roots.filter(({ value }) => value.operation !== undefined)
    const wanted = computed.map(({ value }) => value)
    const plan = recording.planOf(wanted)
    const { leaves } = plan
    // As any runtime without layouts of its own.
    const { model, names } = lowerGraph(plan, wanted, { blockSize: 0 })
    const ours = new Map(Object.entries(features.tensors).map(([name, tensor]) => [heldBy(recording, tensor), name]))
    ours.set(heldBy(recording, input), inputName)
    const called = new Map(leaves.map((value, i) => [leaf(i), ours.get(value) ?? `constant${i}`]))
    const rootNames = new Map(computed.map((root, i) => [root, names[i]!]))
    const named = rename(model, called)
    const ends = roots.map((root) => end(root, rootNames.get(root) ?? ours.get(root.value), images))
    const constants = leaves.flatMap((value, i) => {
      const name = called.get(leaf(i))!
      return name === inputName ? [] : [{ name, dtype: value.dtype, shape: value.shape, values: known(value) }]
    })
    return {
      images,
      model: {
        nodes: [...named.nodes, ...ends.map(({ node }) => node)],
        inputs: [{ name: inputName, dtype: 'float32', shape: ['batch', height, width, channels] }],
        outputs: roots.map(({ tap, value, shape: sides }) => ({
          ...{ name: tap, dtype: value.dtype },
          shape: ['batch', ...sides.slice(1)],
        })),
        constants: [...named.constants, ...constants, ...ends.flatMap(({ constant }) => constant ?? [])],
      },
    }
  } finally {
    tf.dispose([input, made])
  }
}

function rename(model: Model, called: ReadonlyMap<string, string>): Model {
  const nodes = model.nodes.map((node) => ({ ...node, inputs: node.inputs.map((name) => called.get(name) ?? name) }))
  return { ...model, nodes }
}

/** The last node of a tap: it gives it its name, and its shape where that was only a way of looking at the numbers. */
function end(
  { tap, value, shape }: Root,
  name: string | undefined,
  images: number,
): { node: Node; constant?: Constant } {
  if (name === undefined || shape[0] !== images)
    throw new InvalidDefinition([{ pointer: '/tap', detail: `'${tap}' does not depend on the images` }], 'the export')
  const node = (op: string, inputs: string[], attributes = {}): Node => ({
    ...{ op, inputs, attributes, outputs: [tap], domain: '', name: `${tap}/${op}` },
  })
  if (shape.join() === value.shape.join()) return { node: node('Identity', [name]) }
  const constant: Constant = {
    ...{ name: `shape of ${tap}`, dtype: 'int64', shape: [shape.length] },
    values: [-1, ...shape.slice(1)],
  }
  return { node: node('Reshape', [name, constant.name]), constant }
}

/** Operators that only one runtime has are none for a file. */
function assertPortable({ nodes }: Model): void {
  const own = nodes.find(({ domain }) => domain !== '')
  if (!own) return
  const detail = `needs ${own.op} of ${own.domain}, which is not an operator of ONNX`
  throw new InvalidDefinition([{ pointer: '/tap', detail }], 'the export')
}

/**
 * An ONNX file, piece by piece, that makes features of any number of images; `facts` are its metadata. Nothing is
 * computed: the features are recorded twice and written down. Throws InvalidDefinition or Unavailable where they
 * have no form in ONNX, TooLarge above what the format holds.
 */
export async function exportOnnx(features: Features, facts: Record<string, string>): Promise<Uint8Array[]> {
  const before = tf.getBackend()
  const recording = openRecorder()
  await tf.setBackend(backendName)
  try {
    const [few, many] = batches.map((images) => record(features, images, recording))
    const model = forAnyBatch(few!, many!, { input: inputName, prefix: 'size' })
    assertPortable(model)
    const pieces = encodeFile(model, facts)
    const size = pieces.reduce((sum, piece) => sum + piece.length, 0)
    if (size <= largestFile) return pieces
    throw new TooLarge(`the model would have ${size} bytes; a file of ONNX holds ${largestFile}`, 'export safetensors')
  } finally {
    await tf.setBackend(before)
  }
}
