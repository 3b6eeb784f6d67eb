import type { Scalar, Tensor2D } from '../../tf.ts'
import { crossEntropy, hitShares } from './cross-entropy.ts'

/** The share of hits among so many classes is told where there are more. */
const several = 5

/** The loss of a classifier on the images of a batch that have a label, and how many it gets right. */
export function measureClassifier(
  scores: Tensor2D,
  labels: Int32Array,
  smoothing = 0,
): { loss: Scalar; metrics: Record<string, Scalar> } {
  const loss = crossEntropy(scores, labels, smoothing)
  const [accuracy, top5] = hitShares(scores, labels, scores.shape[1] > several ? [1, several] : [1])
  return { loss, metrics: { accuracy: accuracy!, ...(top5 ? { top5 } : {}) } }
}
