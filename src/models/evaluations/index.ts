import { classification } from './classification.ts'
import { nearestNeighbours } from './nearest-neighbours.ts'

/** Every evaluation, by name. */
export const evaluations = { classification, 'nearest-neighbours': nearestNeighbours }
