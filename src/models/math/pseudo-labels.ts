import type { Dice } from '../dice.ts'

/** Points of each cluster, [k]. */
export function countClusters(clusters: ArrayLike<number>, k: number): Int32Array {
  const sizes = new Int32Array(k)
  for (let i = 0; i < clusters.length; i++) if (clusters[i]! >= 0) sizes[clusters[i]!]!++
  return sizes
}

function membersOf(clusters: ArrayLike<number>, k: number): Int32Array[] {
  const sizes = countClusters(clusters, k)
  const members = Array.from(sizes, (size) => new Int32Array(size))
  const filled = new Int32Array(k)
  for (let i = 0; i < clusters.length; i++) {
    const cluster = clusters[i]!
    if (cluster >= 0) members[cluster]![filled[cluster]!++] = i
  }
  return members
}

/** `count` members: different ones where there are more than that, otherwise drawn with replacement. */
function draw(members: Int32Array, count: number, dice: Dice): Int32Array {
  if (members.length > count) {
    const order = dice.permutation(members.length)
    return Int32Array.from({ length: count }, (_, i) => members[order[i]!]!)
  }
  return Int32Array.from({ length: count }, () => members[dice.below(members.length)]!)
}

/**
 * As many visits as there are points, in random order, the same number to each cluster but for one: so no cluster,
 * however large, can be all that is learned. Clusters without points are skipped, and points without a cluster (below
 * 0) are not visited.
 */
export function visitEvenly(clusters: ArrayLike<number>, k: number, dice: Dice): Int32Array {
  const used = membersOf(clusters, k).filter((members) => members.length > 0)
  const visits = new Int32Array(clusters.length)
  if (used.length === 0) throw new RangeError('no point is in a cluster')
  const each = Math.floor(visits.length / used.length)
  const more = visits.length - each * used.length
  // Which clusters are visited once more than the others is drawn anew each time.
  const turn = dice.for('turn').permutation(used.length)
  let at = 0
  for (const [i, members] of used.entries()) {
    const drawn = draw(members, each + (turn[i]! < more ? 1 : 0), dice)
    visits.set(drawn, at)
    at += drawn.length
  }
  return dice
    .for('order')
    .permutation(visits.length)
    .map((place) => visits[place]!)
}

/**
 * What the loss of each of these images is multiplied by, [indices], so that clusters count alike although each image
 * is visited as often as any other: in proportion to 1 / size^power, 1 on average over all. 0 where a point has no
 * cluster.
 */
export function evenWeights(
  clusters: ArrayLike<number>,
  k: number,
  power: number,
  indices: ArrayLike<number>,
): Float32Array {
  // Asked for at each step, so that of all points only their clusters are counted.
  const sizes = countClusters(clusters, k)
  const sum = sizes.reduce((all, size) => all + (size > 0 ? size ** (1 - power) : 0), 0)
  const mean = sum / clusters.length
  return Float32Array.from(indices, (index) => {
    const cluster = clusters[index]!
    return cluster < 0 ? 0 : sizes[cluster]! ** -power / mean
  })
}
