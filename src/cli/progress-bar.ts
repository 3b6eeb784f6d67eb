import type { Progress, RunState } from '../experiments/run.ts'
import { duration } from './output.ts'

const cells = 24

function bar(share: number): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * cells)
  return `${'█'.repeat(full)}${'░'.repeat(cells - full)}`
}

interface Standing {
  state: RunState
  progress: Progress | null
  waiting: string | null
}

/** One line that says where a run stands. */
export function progressLine({ state, progress, waiting }: Standing): string {
  if (state === 'queued') return `${bar(0)}   0 %  waiting for a worker${waiting ? `: ${waiting}` : ''}`
  if (!progress) return `${bar(0)}   0 %  ${state}`
  const percent = String(Math.floor(progress.share * 100)).padStart(3)
  const parts = [`${bar(progress.share)} ${percent} %`]
  if (progress.stage === 'training') {
    parts.push(`epoch ${Math.min(progress.epochs, Math.floor(progress.epoch) + 1)}/${progress.epochs}`)
    parts.push(`step ${progress.step}/${progress.steps}`)
    parts.push(`loss ${progress.loss === null ? 'not a number' : progress.loss.toFixed(3)}`)
    if (progress.imagesPerSecond) parts.push(`${Math.round(progress.imagesPerSecond)} images/s`)
    if (progress.secondsLeft !== null) parts.push(`${duration(progress.secondsLeft)} left`)
  } else {
    parts.push(progress.detail ? `${progress.stage} ${progress.detail}` : progress.stage)
  }
  return parts.join('  ')
}

/**
 * Shows the newest line: rewritten in place on a terminal; elsewhere a new line at most every 5 seconds, so that a log
 * stays readable.
 */
export function openProgressBar(stream: NodeJS.WriteStream): { show(line: string): void; end(): void } {
  let shown = ''
  let last = 0
  return {
    show(line) {
      if (stream.isTTY) {
        // A terminal that does not tell its width says 0.
        const width = Math.max(20, (stream.columns || 80) - 1)
        stream.write(`\r\u001b[2K${line.slice(0, width)}`)
      } else if (line !== shown && Date.now() - last >= 5000) {
        stream.write(`${line}\n`)
        last = Date.now()
      }
      shown = line
    },
    end() {
      if (stream.isTTY) stream.write(shown ? '\n' : '')
      else if (shown) stream.write(`${shown}\n`)
    },
  }
}
