import type { Node } from '../graph/node.ts'
import type { Schedule } from '../graph/plan.ts'
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

/** What it is called in half precision. */
const halfOf = { f32: 'f16', 'vec2<f32>': 'vec2<f16>', 'vec4<f32>': 'vec4<f16>' } as const

type Floats = keyof typeof halfOf

/** Of each kind: what it is called where it is not stored as such, and its words. */
const rounding = {
  f32: { name: 'toHalf', words: 'u32' },
  'vec2<f32>': { name: 'toHalf2', words: 'vec2<u32>' },
  'vec4<f32>': { name: 'toHalf4', words: 'vec4<u32>' },
} as const satisfies Record<Floats, unknown>

function storing(element: Floats, value: string, half: Half): string {
  return `${half === 'rounded' ? rounding[element].name : halfOf[element]}(${value})`
}

/**
 * Rounds as conversions do in hardware: to the nearest, of two that are as near to the even one; from 65520 on to what
 * is infinite. WGSL's quantizeToF16 leaves both to the driver: SwiftShader's cuts digits off.
 */
function roundingCode(element: Floats): string {
  const { name, words } = rounding[element]
  return `fn ${name}(x: ${element}) -> ${element} {
  let word = bitcast<${words}>(x);
  let size = word & ${words}(0x7fffffffu);
  var near = (size + ${words}(0xfffu) + ((size >> ${words}(13u)) & ${words}(1u))) & ${words}(0xffffe000u);
  let small = bitcast<${words}>(round(abs(x) * 16777216.0) * 5.9604644775390625e-8);
  near = select(near, small, size < ${words}(0x38800000u));
  near = select(near, ${words}(0x7f800000u), size >= ${words}(0x477ff000u));
  near = select(near, size, size > ${words}(0x7f800000u));
  return bitcast<${element}>((word & ${words}(0x80000000u)) | near);
}
`
}

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
function activations(roots: readonly Node[]): (node: Node) => boolean {
  const learned = new Set(roots.filter(({ shape }) => shape.length === 4).map(({ shape }) => sidesOf(shape)))
  return ({ dtype, shape }) =>
    dtype === 'float32' && shape.length === 4 && sizeOf(shape) >= leastNumbers && !learned.has(sidesOf(shape))
}

/** The nodes that lie in memory of the graph alone, in half precision: neither what it is given nor what it leaves behind. */
export function storedInHalf({ stages, roots }: Schedule): Set<Node> {
  const isActivation = activations(roots)
  const left = new Set(roots)
  return new Set(stages.flatMap(({ nodes }) => nodes).filter((node) => !left.has(node) && isActivation(node)))
}

/** The same shader where some of what it reads and writes is in half precision. */
export function shaderInHalf(shader: Shader, isHalf: (of: Bound['of']) => boolean, half: Half): Shader {
  let { code } = shader
  const rounded = new Set<Floats>()
  const bound = shader.bound.map((one): Bound => {
    const { element } = one
    if (!isHalf(one.of) || !isFloat(element)) return one
    code = storeInHalf(code, { name: one.name, element }, half)
    if (half === 'native') return { ...one, element: halfOf[element] }
    if (one.writes) rounded.add(element)
    return one
  })
  return { ...shader, bound, code: [...rounded].map(roundingCode).join('') + code }
}
