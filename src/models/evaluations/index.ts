import { nearestNeighbours } from './nearest-neighbours.ts'

/** Every evaluation, by name. */
export const evaluations = { 'nearest-neighbours': nearestNeighbours }
