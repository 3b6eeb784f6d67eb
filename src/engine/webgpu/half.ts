import type { Node } from '../graph/node.ts'
import { sizeOf } from '../recording/shape.ts'
import type { Bound, Shader } from './shader.ts'

/**
 * How numbers are stored in half precision: by the device's own type, or, where it has none, as single ones that are
 * rounded to what a half one can be, which saves nothing and shows what it does to results.
 */
export type Half = 'native' | 'rounded'

const isFloat = (element: Bound['element']): element is Floats => element in halfOf

/** Where the bracket that opens at `from` closes. */
function closing(text: string, from: number, [open, close]: readonly [string, string]): number {
  let depth = 0
  for (let i = from; i < text.length; i++) {
    if (text[i] === open) depth++
    else if (text[i] === close && --depth === 0) return i
  }
  throw new Error(`no bracket closes in ${text.slice(from, from + 60)}`)
}

function storing(element: Floats, value: string, half: Half): string {
  if (half === 'rounded') return `quantizeToF16(${value})`
  return `${halfOf[element]}(${value})`
}

/** What it is called in half precision. */
const halfOf = { f32: 'f16', 'vec2<f32>': 'vec2<f16>', 'vec4<f32>': 'vec4<f16>' } as const

type Floats = keyof typeof halfOf

/** The code with each number of an array rounded where it is stored, and made single where it is read. */
export function storeInHalf(code: string, { name, element }: { name: string; element: Floats }, half: Half): string {
  const begins = new RegExp(`\\b${name}\\[`, 'g')
  let made = ''
  let from = 0
  for (let match = begins.exec(code); match; match = begins.exec(code)) {
    const open = match.index + name.length
    const end = closing(code, open, ['[', ']'])
    const place = `${name}[${storeInHalf(code.slice(open + 1, end), { name, element }, half)}]`
    made += code.slice(from, match.index)
    const assigned = /^\s*=(?!=)\s*/.exec(code.slice(end + 1))
    if (assigned) {
      const begin = end + 1 + assigned[0].length
      const stop = code.indexOf(';', begin)
      const value = storeInHalf(code.slice(begin, stop), { name, element }, half)
      made += `${place} = ${storing(element, value, half)}`
      from = stop
    } else {
      if (/^\s*[-+*/]=/.test(code.slice(end + 1))) throw new Error(`${name} is changed where it lies`)
      if (/^\s*\./.test(code.slice(end + 1)) && /^\s*\.[xyzw]+\s*=(?!=)/.test(code.slice(end + 1)))
        throw new Error(`a part of ${name} is assigned`)
      made += half === 'native' ? `${element}(${place})` : place
      from = end + 1
    }
    begins.lastIndex = from
  }
  return made + code.slice(from)
}

/** Fewer numbers than these are not worth losing digits for. */
const leastNumbers = 4096

const sidesOf = (shape: readonly number[]) => [...shape].sort((a, b) => a - b).join()

/**
 * Tells which nodes' numbers may be kept in half precision: activations of images, and their gradients. What has the
 * sides of something that the graph leaves behind is a weight, or on its way into one or into a slot of the optimiser:
 * squared gradients and small changes would vanish.
 */
export function activations(roots: readonly Node[]): (node: Node) => boolean {
  const learned = new Set(roots.filter(({ shape }) => shape.length === 4).map(({ shape }) => sidesOf(shape)))
  return ({ dtype, shape }) =>
    dtype === 'float32' && shape.length === 4 && sizeOf(shape) >= leastNumbers && !learned.has(sidesOf(shape))
}

/** The same shader where some of what it reads and writes is in half precision. */
export function shaderInHalf(shader: Shader, isHalf: (of: Bound['of']) => boolean, half: Half): Shader {
  let { code } = shader
  const bound = shader.bound.map((one): Bound => {
    const { element } = one
    if (!isHalf(one.of) || !isFloat(element)) return one
    code = storeInHalf(code, { name: one.name, element }, half)
    return half === 'native' ? { ...one, element: halfOf[element] } : one
  })
  return { ...shader, bound, code }
}
