import { tf } from '../../src/tf.ts'

/** The number that 16 bits stand for. */
function fromHalf(bits: number): number {
  const [exponent, fraction] = [bits >> 10, bits & 1023]
  return exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25)
}

/** The nearest number of half precision, of two that are as near the one whose last bit is 0. */
function nearestHalf(x: number): number {
  const size = Math.abs(x)
  if (!Number.isFinite(x)) return x
  if (size >= 65520) return Math.sign(x) * Number.POSITIVE_INFINITY
  const step = 2 ** Math.max(-24, Math.floor(Math.log2(size)) - 10)
  const below = Math.floor(size / step)
  const over = size / step - below
  const even = below % 2 === 0 ? below : below + 1
  return Math.sign(x) * step * (over < 0.5 ? below : over > 0.5 ? below + 1 : even)
}

/** All numbers of half precision, what lies in the middle between two, the floats beside these, and any others. */
export function tellingNumbers(): Float32Array {
  const words = new Int32Array(1)
  const float = new Float32Array(words.buffer)
  const numbers = [0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3.4e38, -3.4e38, 1e-40]
  const besides = (x: number) => {
    float[0] = x
    const word = words[0]!
    for (const by of [-1, 0, 1]) {
      words[0] = word + by
      numbers.push(float[0]!, -float[0]!)
    }
  }
  for (let bits = 1; bits < 0x7c00; bits++) {
    besides(fromHalf(bits))
    besides((fromHalf(bits) + fromHalf(bits + 1)) / 2)
  }
  let word = 1
  for (let i = 0; i < 100_000; i++) {
    word = (Math.imul(word, 1664525) + 1013904223) | 0
    words[0] = word
    numbers.push(float[0]!)
  }
  return Float32Array.from(numbers)
}

/** What the engine has of numbers that lie between two operations: as results of a convolution that changes nothing. */
async function kept(numbers: Float32Array): Promise<Float32Array> {
  const results = tf.tidy(() => {
    const x = tf.tensor4d(numbers, [1, numbers.length, 1, 1])
    return tf.neg(tf.reshape(tf.conv2d(x, tf.ones<tf.Rank.R4>([1, 1, 1, 1]), 1, 'valid'), [-1]))
  })
  const found = Float32Array.from(await results.data(), (x) => -x)
  results.dispose()
  return found
}

/** The numbers that the engine has another number of half precision for than the nearest: which, what, and the nearest. */
export async function wronglyRounded(numbers: Float32Array): Promise<(readonly [number, number, number])[]> {
  const found = await kept(numbers)
  const all = Array.from(numbers, (x, i) => [x, found[i]!, nearestHalf(x)] as const)
  return all.filter(([, is, nearest]) => is !== nearest && !(Number.isNaN(is) && Number.isNaN(nearest)))
}
