import { type Tensor, tf } from '../../tf.ts'

export type Numbers = Record<string, number>

/** Numbers on their way, the tensors that they are in, and who waits for them. */
interface Reading {
  scalars: Record<string, Tensor>
  numbers: Promise<Numbers>
  /** Whether the numbers are there. */
  arrived: boolean
  take(numbers: Numbers): void
}

/** All are asked for at once: an engine that records computes them, and what else is recorded, as one graph. */
async function readAll(scalars: Record<string, Tensor>): Promise<Numbers> {
  const entries = Object.entries(scalars)
  const read = await Promise.all(entries.map(([, scalar]) => scalar.data()))
  return Object.fromEntries(entries.map(([name], i) => [name, read[i]![0]!]))
}

function begin(scalars: Reading['scalars'], take: Reading['take']): Reading {
  const reading: Reading = { scalars, numbers: readAll(scalars), arrived: false, take }
  const arrive = () => {
    reading.arrived = true
  }
  // What fails is told when it is waited for.
  reading.numbers.then(arrive, arrive)
  return reading
}

async function finish({ scalars, numbers, take }: Reading): Promise<void> {
  try {
    take(await numbers)
  } finally {
    tf.dispose(scalars)
  }
}

/**
 * Reads one batch behind: while the numbers of a batch are on their way, the next batch is recorded, so that an engine
 * on another device always has something to do. One that computes within the call has its numbers at once.
 */
export function readBehind() {
  let last: Reading | undefined
  const settle = async () => {
    const one = last
    last = undefined
    if (one) await finish(one)
  }
  return {
    /** Asks for numbers, and hands on those that were asked for before. The scalars are disposed of once read. */
    async ask(scalars: Reading['scalars'], take: Reading['take']): Promise<void> {
      const before = last
      last = begin(scalars, take)
      if (before) await finish(before)
    },
    /** Resolves when all that was asked for has been handed on. */
    settle,
    /** Hands on what is there already: who hears of a step and stops the training loses no step more by it. */
    async settleArrived(): Promise<void> {
      if (last?.arrived) await settle()
    },
    /** The same where something has failed already, and nobody is told any more. */
    async drop(): Promise<void> {
      await last?.numbers.catch(() => {})
      tf.dispose(last?.scalars ?? [])
      last = undefined
    },
  }
}

export type Behind = ReturnType<typeof readBehind>
