import { Refused } from './failures.ts'

/** The first of `offered` that the Accept header likes best; refuses (406) where it likes none. */
export function chooseType<const Type extends string>(accept: string | undefined, offered: readonly Type[]): Type {
  const ranges = (accept ?? '*/*').split(',').map((part) => {
    const [type = '', ...parameters] = part
      .trim()
      .toLowerCase()
      .split(/\s*;\s*/)
    const quality = Number(parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? 1)
    return { type, quality: Number.isNaN(quality) ? 1 : quality }
  })
  // The most specific range that fits decides, as RFC 9110 has it.
  const quality = (type: string) => {
    const fitting = [type, `${type.split('/')[0]}/*`, '*/*']
    for (const range of fitting) {
      const found = ranges.find((candidate) => candidate.type === range)
      if (found) return found.quality
    }
    return 0
  }
  const [best] = [...offered].sort((a, b) => quality(b) - quality(a))
  if (best !== undefined && quality(best) > 0) return best
  throw new Refused(406, 'not-acceptable', `this is not to be had as ${accept}`, `accept ${offered.join(' or ')}`)
}
