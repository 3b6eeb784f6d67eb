/** Numbers in memory, read along sides: number offset + i strides[0] + j strides[1] + ... for place (i, j, ...). */
export interface Walk {
  strides: readonly number[]
  offset: number
}

/** Sides and what is walked along them, with sides put together that all walks pass as if they were one. */
export function mergeSides<W extends Walk>(
  sides: readonly number[],
  walks: readonly W[],
): { sides: number[]; walks: W[] } {
  const merged: number[] = []
  const strides = walks.map(() => [] as number[])
  for (let i = sides.length - 1; i >= 0; i--) {
    const side = sides[i]!
    if (side === 1) continue
    const last = merged[0]
    const joins = last !== undefined && walks.every((walk, w) => walk.strides[i] === strides[w]![0]! * last)
    if (joins) {
      merged[0] = side * last
      continue
    }
    merged.unshift(side)
    for (const [w, walk] of walks.entries()) strides[w]!.unshift(walk.strides[i]!)
  }
  return { sides: merged, walks: walks.map((walk, w) => ({ ...walk, strides: strides[w]! })) }
}

/** Splits the variable `index`, a u32, along sides: the lines that do it, and the names of the places. */
export function splitIndex(
  index: string,
  sides: readonly number[],
  prefix: string,
): { lines: string[]; places: string[] } {
  const lines: string[] = []
  const places = sides.map((_, i) => `${prefix}${i}`)
  let rest = index
  for (let i = sides.length - 1; i > 0; i--) {
    const next = `${prefix}r${i}`
    lines.push(`let ${next} = ${rest} / ${sides[i]}u;`, `let ${places[i]} = ${rest} - ${next} * ${sides[i]}u;`)
    rest = next
  }
  if (sides.length > 0) lines.push(`let ${places[0]} = ${rest};`)
  return { lines, places }
}

/** The number at which a walk is, as an expression of the places. */
export function placeOf({ strides, offset }: Walk, places: readonly string[]): string {
  const terms = strides.flatMap((stride, i) =>
    stride === 0
      ? []
      : // Backwards is forwards by 2^32 less that.
        [stride === 1 ? places[i]! : `${places[i]} * ${stride >>> 0}u`],
  )
  if (offset !== 0 || terms.length === 0) terms.push(`${offset}u`)
  return terms.join(' + ')
}
