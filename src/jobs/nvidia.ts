import { execFile } from 'node:child_process'

/** A GPU as nvidia-smi shows it; what it does not tell is absent. Sizes are bytes. */
export interface Card {
  index: number
  uuid: string
  name: string
  memoryBytes?: number
  usedBytes?: number
  /** Share of the time that something computed on it, [0, 1]. */
  utilisation?: number
}

/** What asking came to. */
export type Answer = { cards: Card[] } | { fault: string /** It will not be there later either. */; absent: boolean }

export interface Asking {
  /** Where programs are (PATH). */
  environment: NodeJS.ProcessEnv
  /** How long it may take. */
  seconds: number
  signal?: AbortSignal
}

const query = ['--query-gpu=index,uuid,name,memory.total,memory.used,utilization.gpu', '--format=csv,noheader,nounits']

/** '[N/A]', '[Not Supported]', '[Unknown Error]' and the like are no numbers. */
function number(text: string | undefined): number | undefined {
  const found = /^(\d+(?:\.\d+)?)( MiB| ?%)?$/.exec(text ?? '')
  return found ? Number(found[1]) : undefined
}

const bytes = (mebibytes: number | undefined) => (mebibytes === undefined ? undefined : mebibytes * 2 ** 20)

/** What nvidia-smi wrote, a GPU a line; lines that are none are passed over. A name may hold commas. */
export function readCards(text: string): Card[] {
  return text.split('\n').flatMap((line) => {
    const words = line.split(',').map((word) => word.trim())
    const index = number(words[0])
    const [total, used, busy] = words.slice(-3)
    if (index === undefined || words.length < 6) return []
    const percent = number(busy)
    const utilisation = percent === undefined ? undefined : Math.min(1, percent / 100)
    const sizes = { memoryBytes: bytes(number(total)), usedBytes: bytes(number(used)) }
    return [{ index, uuid: words[1]!, name: words.slice(2, -3).join(', '), ...sizes, utilisation }]
  })
}

interface Failed extends Error {
  code?: string | number | null
  killed?: boolean
}

function faultOf(error: Failed, said: string, seconds: number): Answer {
  if (error.code === 'ENOENT') return { fault: 'it is not there', absent: true }
  if (error.code === 'EACCES') return { fault: 'it may not be run', absent: true }
  if (error.killed) return { fault: `it does not answer within ${seconds} s`, absent: false }
  const words = said.trim().split('\n').slice(0, 2).join(' ').slice(0, 300)
  return { fault: words || `it ends with ${error.code}`, absent: false }
}

/** Asks nvidia-smi for the GPUs of this machine. Never throws, and returns in time also where it cannot be ended. */
export function askCards({ environment, seconds, signal }: Asking): Promise<Answer> {
  return new Promise((resolve) => {
    const late = () => resolve({ fault: `it does not answer within ${seconds} s`, absent: false })
    const timer = setTimeout(late, seconds * 1000 + 500)
    const ending = { timeout: seconds * 1000, killSignal: 'SIGKILL', signal } as const
    execFile('nvidia-smi', query, { env: environment, ...ending }, (error, stdout, stderr) => {
      clearTimeout(timer)
      if (error) return resolve(faultOf(error as Failed, `${stdout}\n${stderr}`, seconds))
      const cards = readCards(stdout)
      resolve(cards.length > 0 ? { cards } : { fault: 'it lists no GPU', absent: false })
    })
  })
}

/** What CUDA is told to use first; it has no say in what Vulkan does. */
function visibleCard(cards: readonly Card[], { CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER }: NodeJS.ProcessEnv) {
  const [first = ''] = (CUDA_VISIBLE_DEVICES ?? '').split(',').map((word) => word.trim())
  if (/^GPU-/.test(first)) return cards.find(({ uuid }) => uuid.startsWith(first))
  const ordered = CUDA_DEVICE_ORDER === 'PCI_BUS_ID' || new Set(cards.map(({ name }) => name)).size === 1
  return ordered ? cards.find(({ index }) => String(index) === first) : undefined
}

/**
 * Those of the GPUs of which one is the engine's: more than one where that cannot be told. `device` is what the engine
 * calls it.
 */
export function likelyCards(
  cards: readonly Card[],
  { name, device }: { name: string; device: string },
  environment: NodeJS.ProcessEnv,
): readonly Card[] {
  const visible = name === 'webgpu' ? undefined : visibleCard(cards, environment)
  if (visible) return [visible]
  const called = device.toLowerCase()
  const alike = cards.filter((card) => called.includes(card.name.toLowerCase()))
  return alike.length > 0 ? alike : cards
}
