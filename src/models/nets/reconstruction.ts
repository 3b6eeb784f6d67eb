import type { Dataset } from '../../data/dataset.ts'
import { toUnit } from '../../data/pixels.ts'
import { type Scalar, type Tensor, type Tensor4D, tf } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import { differenceToStill } from '../layers/still.ts'
import type { Decoder, DecoderPlan, Switches } from './decoder.ts'
import type { Net } from './net.ts'
import { restoringMemory } from './statistics.ts'

/** What a net makes of a batch, as far as a decoder looks at it. */
export interface Coded {
  /** [n, h, w, c] in [0, 1]. */
  images: Tensor4D
  /** At `codingTaps`. */
  taps: Record<string, Tensor>
}

/** What reconstructions are compared with, measured once; part of a learner's memory. */
export interface Targets {
  /** 1 where it has been measured. */
  known: Float32Array
  /** Of the pixels of each channel: it is taken off the images. */
  mean: Float32Array
  /** Of the images' numbers, then of those at each code that is reconstructed. */
  variance: Float32Array
}

/** Images that the targets are measured on. */
const calibrationImages = 64

/** The taps that a decoder needs of its net. */
export function codingTaps({ layers }: DecoderPlan): string[] {
  return [...new Set(layers.flatMap(({ code, source }) => [code, source]))]
}

/** Names of the reconstructions: the image, then the code of each macro-layer but the last. */
export function targetNames({ layers }: DecoderPlan): string[] {
  return ['image', ...layers.slice(0, -1).map(({ code }) => code)]
}

export function newTargets(plan: DecoderPlan, channels: number): Targets {
  return {
    known: new Float32Array(1),
    mean: new Float32Array(channels),
    variance: new Float32Array(plan.layers.length).fill(1),
  }
}

/** The targets under the names they have in a checkpoint. */
export function memoryOf({ known, mean, variance }: Targets): Record<string, Float32Array> {
  return { 'targets/known': known, 'targets/mean': mean, 'targets/variance': variance }
}

/** What reconstruction `layer` should be. */
function targetOf({ images, taps }: Coded, { layers }: DecoderPlan, { mean }: Targets, layer: number): Tensor {
  return layer === 0 ? tf.sub(images, tf.tensor1d(mean.slice())) : taps[layers[layer - 1]!.code]!
}

/**
 * Reconstructions by one decoder after the other from the code of macro-layer `from` down to the image (0), by layer;
 * each is given what the one above it has made.
 */
export function decodeStacked(decoder: Decoder, { taps }: Coded, switches: Switches, from: number): Tensor4D[] {
  const { layers } = decoder.plan
  const made: Tensor4D[] = []
  let code = taps[layers[from]!.code] as Tensor4D
  for (let layer = from; layer >= 0; layer--) {
    code = decoder.decode(layer, code, taps[layers[layer]!.source] as Tensor4D, switches)
    made[layer] = code
  }
  return made
}

/** Reconstructions by each decoder alone, from the net's own code above it. */
export function decodeEach(decoder: Decoder, { taps }: Coded, switches: Switches): Tensor4D[] {
  return decoder.plan.layers.map(({ code, source }, layer) =>
    decoder.decode(layer, taps[code] as Tensor4D, taps[source] as Tensor4D, switches),
  )
}

/** A decoder at work for a method. */
export interface Decoding {
  decoder: Decoder
  switches: Switches
  targets: Targets
}

/** How reconstructions are measured. */
export interface Measure {
  /** Each decoder alone, from the net's own code above it, instead of one after the other. */
  apart: boolean
  /** The weight of each reconstruction, the image first; those of 0 are not looked at. */
  weights: readonly number[]
  /**
   * The sum over all numbers by twice the images, as in Caffe; or the mean square of a number, divided by the variance
   * of what is reconstructed.
   */
  scale: 'raw' | 'normalised'
  /** Whether the codes that are to be reconstructed get gradients too. */
  goals: 'moving' | 'still'
}

function errorOf(made: Tensor4D, layer: number, coded: Coded, { decoder, targets }: Decoding, how: Measure): Scalar {
  const target = targetOf(coded, decoder.plan, targets, layer)
  const difference = how.goals === 'moving' ? tf.sub(made, target) : differenceToStill(made, target)
  const sum = tf.sum(tf.square(difference))
  const divisor = how.scale === 'raw' ? 2 * made.shape[0] : made.size * Math.max(targets.variance[layer]!, 1e-12)
  return tf.mul(sum, tf.scalar(1 / divisor)) as Scalar
}

/** The weighted sum of the errors of reconstructions, and each of them by name. */
export function measureReconstructions(
  decoding: Decoding,
  coded: Coded,
  how: Measure,
): { loss: Scalar; metrics: Record<string, Scalar> } {
  const { decoder, switches } = decoding
  const { layers } = decoder.plan
  const made = how.apart
    ? decodeEach(decoder, coded, switches)
    : decodeStacked(decoder, coded, switches, layers.length - 1)
  const names = targetNames(decoder.plan)
  const metrics: Record<string, Scalar> = {}
  const terms: Tensor[] = [tf.scalar(0)]
  for (const [layer, weight] of how.weights.entries()) {
    if (weight === 0) continue
    const error = errorOf(made[layer]!, layer, coded, decoding, how)
    metrics[`${names[layer]}Error`] = error
    terms.push(tf.mul(error, weight))
  }
  return { loss: tf.addN(terms) as Scalar, metrics }
}

async function varianceOf(x: Tensor): Promise<number> {
  const both = tf.tidy(() => {
    const mean = tf.mean(x)
    return tf.mean(tf.square(tf.sub(x, mean)))
  })
  const [variance] = await both.data()
  both.dispose()
  return variance!
}

/** Measures the targets on some images, as training sees them. */
export async function measureTargets(
  net: Net,
  { decoder: { plan }, targets }: Decoding,
  corpus: Dataset,
  dice: Dice,
): Promise<void> {
  const count = Math.min(calibrationImages, corpus.size)
  const pixels = await corpus.read(dice.permutation(corpus.size).slice(0, count))
  const images = tf.tensor4d(toUnit(pixels.data), [count, ...pixels.shape])
  let taps: Record<string, Tensor> = {}
  try {
    await restoringMemory(net, async () => {
      const names = plan.layers.slice(0, -1).map(({ code }) => code)
      taps = names.length > 0 ? tf.tidy(() => net.forward(images, names, true)) : {}
      const found = [images, ...names.map((name) => taps[name]!)].map(varianceOf)
      const variance = await Promise.all(found)
      const mean = tf.tidy(() => tf.mean(images, [0, 1, 2]))
      targets.mean.set(await mean.data())
      mean.dispose()
      targets.variance.set(variance)
      targets.known[0] = 1
    })
  } finally {
    tf.dispose([images, taps])
  }
}
