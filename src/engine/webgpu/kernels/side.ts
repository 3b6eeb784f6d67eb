import type { Arg, Node } from '../../graph/node.ts'

/** A number's place as WGSL, and a condition without which it counts as zero. */
export interface Found {
  place: string
  valid?: string
}

/**
 * One side of a product, as WGSL that finds its numbers: across are the rows of the left side, the columns of the
 * right one; along both run the inner places, over which is summed. Where four numbers are read at once, places count
 * fours, and so does what is `across` or `inner` of the side along which they lie.
 */
export interface Side {
  node: Node
  four: 'across' | 'inner' | undefined
  /** Along which side single numbers lie next to each other. */
  next: 'across' | 'inner'
  /** Statements that keep, in variables whose names begin with `name`, what there is to know of a place across. */
  settle(name: string, across: string): string
  /** The same of an inner place; both may use `batch`. */
  step(name: string, inner: string): string
  find(across: string, inner: string): Found
}

export interface Steps {
  batch: number
  across: number
  inner: number
}

const byFour = (number: number) => number % 4 === 0

/** A side whose numbers lie at steps of their own. */
export function strided({ node, offset }: Pick<Arg, 'node' | 'offset'>, steps: Steps, counts: Steps): Side {
  const along = (side: 'across' | 'inner', other: 'across' | 'inner') =>
    (steps[side] === 1 || counts[side] === 1) &&
    byFour(counts[side]) &&
    byFour(offset) &&
    (byFour(steps[other]) || counts[other] === 1) &&
    (byFour(steps.batch) || counts.batch === 1)
  const four = along('across', 'inner') ? 'across' : along('inner', 'across') ? 'inner' : undefined
  const step = (side: 'across' | 'inner' | 'batch') => {
    if (counts[side] === 1) return 0
    return four && side !== four ? steps[side] / 4 : steps[side]
  }
  const [batch, across, inner] = [step('batch'), step('across'), step('inner')]
  const begin = four ? offset / 4 : offset
  const next = four ?? (inner === 1 || (across !== 1 && inner < across) ? 'inner' : 'across')
  return {
    node,
    four,
    next,
    settle: (name, place) => `let ${name}_at = ${begin}u + batch * ${batch}u + ${place} * ${across}u;`,
    step: (name, place) => `let ${name}_at = ${place} * ${inner}u;`,
    find: (one, other) => ({ place: `${one}_at + ${other}_at` }),
  }
}
