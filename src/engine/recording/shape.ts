export function sizeOf(shape: readonly number[]): number {
  let size = 1
  for (const side of shape) size *= side
  return size
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}
