import { classification } from './classification.ts'
import { clusterAgreement } from './cluster-agreement.ts'
import { nearestNeighbours } from './nearest-neighbours.ts'

/** Every evaluation, by name. */
export const evaluations = {
  classification,
  'cluster-agreement': clusterAgreement,
  'nearest-neighbours': nearestNeighbours,
}
