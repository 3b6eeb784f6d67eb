/** Where a resized row or column comes from: two neighbours, and how far towards the second. */
export interface Source {
  first: number[]
  second: number[]
  share: number[]
}

export interface Resizing {
  alignCorners: boolean
  halfPixelCenters: boolean
}

function scaleOf(from: number, to: number, alignCorners: boolean): number {
  return alignCorners && to > 1 ? (from - 1) / (to - 1) : from / to
}

/** Two neighbours for each place of a resized side. */
export function between(from: number, to: number, { alignCorners, halfPixelCenters }: Resizing): Source {
  const scale = scaleOf(from, to, alignCorners)
  const at = Array.from({ length: to }, (_, i) => (halfPixelCenters ? scale * (i + 0.5) - 0.5 : scale * i))
  const first = at.map((place) => Math.max(0, Math.floor(place)))
  const second = at.map((place) => Math.max(0, Math.min(from - 1, Math.ceil(place))))
  return { first, second, share: at.map((place, i) => place - first[i]!) }
}

/** The nearest for each place of a resized side. */
export function nearest(from: number, to: number, { alignCorners, halfPixelCenters }: Resizing): number[] {
  const scale = scaleOf(from, to, alignCorners)
  return Array.from({ length: to }, (_, i) => {
    const place = scale * (halfPixelCenters ? i + 0.5 : i)
    return Math.max(0, Math.min(from - 1, alignCorners ? Math.round(place) : Math.floor(place)))
  })
}

/** What place i of the small side gave to place j of the resized one: [from, to]. */
export function bilinearWeights(from: number, to: number, resizing: Resizing): Float32Array {
  const weights = new Float32Array(from * to)
  const { first, second, share } = between(from, to, resizing)
  for (let j = 0; j < to; j++) {
    weights[first[j]! * to + j]! += 1 - share[j]!
    weights[second[j]! * to + j]! += share[j]!
  }
  return weights
}

export function nearestWeights(from: number, to: number, resizing: Resizing): Float32Array {
  const weights = new Float32Array(from * to)
  for (const [j, place] of nearest(from, to, resizing).entries()) weights[place * to + j] = 1
  return weights
}
