import { preamble } from './formulas.ts'

const functions: Readonly<Record<string, string>> = {
  ...preamble,
  /** Bits that the compiler does not know: of numbers that it refuses to have in the text, and of NaN, which it may assume away. */
  bits: `var<private> hidden: u32 = 0u;
fn bits(x: u32) -> f32 { return bitcast<f32>(x | hidden); }`,
}

/** The functions that a shader's text calls, and those that they call. */
export function preambleOf(text: string): string {
  const needed = new Set<string>()
  const visit = (code: string): void => {
    for (const [name, own] of Object.entries(functions)) {
      if (needed.has(name) || !new RegExp(`\\b${name}\\(`).test(code)) continue
      needed.add(name)
      visit(own)
    }
  }
  visit(text)
  return [...needed].map((name) => `${functions[name]}\n`).join('')
}
