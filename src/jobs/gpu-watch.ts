import type { Logger } from '../experiments/context.ts'
import type { EngineRecord } from '../experiments/run.ts'
import { type Answer, askCards, type Card, likelyCards } from './nvidia.ts'
import { repeat } from './repeat.ts'

/** What is measured of a GPU at a moment, by whomever it is used; what is not known is absent. Sizes are bytes. */
export interface GpuUsage {
  utilisation?: number
  usedBytes?: number
  freeBytes?: number
}

/** The GPU that the runs of a worker compute on. */
export interface Gpu {
  name: string
  /** Of its memory; absent where neither the engine nor nvidia-smi knows. */
  memoryBytes?: number
  /** Measures it once, now. */
  look(): Promise<GpuUsage>
  /** Measures it now and every few seconds. */
  watch(onUsage: (usage: GpuUsage) => void): { close(): Promise<void> }
}

export interface GpuOptions {
  environment: NodeJS.ProcessEnv
  log: Logger
  /** Between two looks. */
  seconds?: number
  /** Ends the first look. */
  signal?: AbortSignal
  /** How long nvidia-smi may take, the first time and later. */
  patience?: { first: number; later: number }
}

/** Of whose GPUs nvidia-smi knows nothing. */
const otherVendors = /\b(amd|ati|radeon|intel|arc|apple|mali|adreno|qualcomm|llvmpipe|swiftshader)\b/i

/** Looks left out after the n-th that failed in a row: a program that hangs may never be gone. */
const turnsOfPause = (n: number) => Math.min(720, 11 * 2 ** (n - 1))

const cure =
  'a worker that is shown one of them alone is measured (NVIDIA_VISIBLE_DEVICES of its container; CUDA_VISIBLE_DEVICES does ' +
  'for engines on CUDA)'

/** Says each thing once. */
function saying(log: Logger): (text: string) => void {
  const said = new Set<string>()
  return (text) => {
    if (!said.has(text)) log.info(text)
    said.add(text)
  }
}

/** What nvidia-smi tells about the one GPU that is meant. */
function usageOf(cards: readonly Card[], say: (text: string) => void): GpuUsage {
  const [card] = cards
  if (!card || cards.length > 1) {
    say(`utilisation and memory in use are not told: nvidia-smi lists ${cards.length} GPUs that may be meant; ${cure}`)
    return {}
  }
  const { utilisation, usedBytes, memoryBytes } = card
  if (utilisation === undefined) say(`nvidia-smi does not tell the utilisation of ${card.name}`)
  if (usedBytes === undefined) say(`nvidia-smi does not tell the memory in use of ${card.name}`)
  const known = usedBytes !== undefined && memoryBytes !== undefined
  return { utilisation, usedBytes, freeBytes: known ? Math.max(0, memoryBytes - usedBytes) : undefined }
}

/** What all of the GPUs that may be meant have in common. */
function common<K extends 'name' | 'memoryBytes'>(cards: readonly Card[], key: K): Card[K] | undefined {
  return cards.every((card) => card[key] === cards[0]![key]) ? cards[0]?.[key] : undefined
}

/**
 * Learns what the GPU of an engine is, and lets it be measured with nvidia-smi where that is there: where it is not,
 * hangs, fails or does not tell, the log says so once and nothing else happens.
 */
export async function findGpu(engine: EngineRecord, options: GpuOptions): Promise<Gpu> {
  const { environment, log, seconds = 5, patience = { first: 20, later: 5 } } = options
  const say = saying(log)
  const own = { name: engine.device, memoryBytes: engine.gpuMemory }
  if (otherVendors.test(engine.device))
    return { ...own, look: async () => ({}), watch: () => ({ close: async () => {} }) }
  const ask = (limit: number, signal?: AbortSignal) => askCards({ environment, seconds: limit, signal })
  const meant = (answer: Answer) => ('cards' in answer ? likelyCards(answer.cards, engine, environment) : [])
  const first = await ask(patience.first, options.signal)
  const cards = meant(first)
  return {
    name: common(cards, 'name') ?? own.name,
    memoryBytes: common(cards, 'memoryBytes') ?? own.memoryBytes,
    async look() {
      if ('absent' in first && first.absent) return {}
      const answer = await ask(patience.later)
      return 'cards' in answer ? usageOf(meant(answer), say) : {}
    },
    watch(onUsage) {
      const halt = new AbortController()
      let known: Answer | undefined = first
      let failures = 0
      let pause = 0
      const look = async () => {
        if (pause-- > 0) return
        const answer = known ?? (await ask(patience.later, halt.signal))
        known = undefined
        if (halt.signal.aborted) return
        failures = 'cards' in answer ? 0 : failures + 1
        if ('cards' in answer) return onUsage(usageOf(meant(answer), say))
        say(`utilisation and memory of the GPU are not told, for nvidia-smi does not help: ${answer.fault}`)
        onUsage({})
        pause = answer.absent ? Infinity : turnsOfPause(failures)
      }
      const loop = repeat(seconds, look, (error) => say(`the GPU is not measured: ${(error as Error).message}`))
      return {
        close() {
          halt.abort()
          return loop.close()
        },
      }
    },
  }
}
