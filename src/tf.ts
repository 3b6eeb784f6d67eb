// The one door to TensorFlow.js. tfjs-core alone has no gradients and its deep imports fail under Node's ESM;
// the union package shares the same engine and has both.
import * as tf from '@tensorflow/tfjs'

// Production mode only turns off the console banner of the cpu backend and debug checks.
tf.enableProdMode()

export type { Scalar, Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D, Variable } from '@tensorflow/tfjs'
export { tf }

/** The most bytes that an engine takes in one tensor, and whose bound that is: 'an engine', or a GPU's name. */
export interface Largest {
  bytes: number
  of: string
}

/** Of every engine that does not know a lower one. */
export const largestOfAll: Largest = { bytes: 2 ** 31 - 1, of: 'an engine' }

/** That of the present engine. */
export function largestHere(): Largest {
  const backend = tf.backend() as tf.KernelBackend & { largest?: Largest }
  return backend.largest ?? largestOfAll
}

/** Whether the engine gives numbers in promises only: they are likely on another device, and the way there is long. */
export function isFarAway(): boolean {
  const backend = tf.backend() as tf.KernelBackend & { synchronous?: boolean }
  return backend.synchronous === false
}

/**
 * Lets an engine that records what it is to do compute it, without a number being read: what comes after it is another
 * graph, which shares no memory of its intermediate results. Other engines have computed already.
 */
export function computeRecorded(): void {
  const backend = tf.backend() as tf.KernelBackend & { endStep?(): void }
  backend.endStep?.()
}
