import type pg from 'pg'
import { Unavailable } from '../errors.ts'
import type { Progress } from '../experiments/run.ts'
import { fenced, type Patience, persistently } from './fence.ts'
import { appendPoints, type Point } from './metrics.ts'
import type { Fence, LogLine, Usage } from './rows.ts'
import type { TallyName } from './tallies.ts'

type Line = Pick<LogLine, 'number' | 'time' | 'level' | 'text'>

interface Batch {
  points: Point[]
  lines: Line[]
  samples: Usage[]
  progress: Progress | undefined
  /** Steps of training since the batch before. */
  steps: number
}

/** Milliseconds between two flushes, and between two notifications. */
const pace = 250
const pointsPerFlush = 5000
const flushAt = 1000
/** What is kept while the database is away. */
const mostPoints = 200_000
const mostLines = 20_000
const longestLine = 20_000

/** What a run says all the time: metrics, log lines, samples, progress. Kept in memory, written in batches. */
export interface Journal {
  points(points: readonly Point[]): void
  /** Points that nobody fails for. */
  extra(points: readonly Point[]): void
  line(level: LogLine['level'], text: string): void
  sample(usage: Usage): void
  /** `steps`: how many were taken since it was told last. */
  progress(progress: Progress, steps: number): void
  /** Something of the run was written elsewhere: listeners hear of it with the next notification. */
  owe(): void
  /** Resolves when all of it is durable; throws what made that impossible. */
  flush(): Promise<void>
  /** Gives up what is still waiting, without an error. */
  close(): Promise<void>
}

async function writeLines(client: pg.ClientBase, { runId, attempt }: Fence, lines: readonly Line[]): Promise<void> {
  if (lines.length === 0) return
  await client.query(
    `INSERT INTO run_log (run_id, attempt, number, time, level, text)
     SELECT $1, $2, line.* FROM unnest($3::int[], $4::timestamptz[], $5::text[], $6::text[]) AS line
     ON CONFLICT DO NOTHING`,
    [
      runId,
      attempt,
      lines.map(({ number }) => number),
      lines.map(({ time }) => time.toISOString()),
      lines.map(({ level }) => level),
      lines.map(({ text }) => text),
    ],
  )
}

async function writeSamples(client: pg.ClientBase, { runId, attempt }: Fence, samples: readonly Usage[]) {
  if (samples.length === 0) return
  await client.query(
    `INSERT INTO run_samples (run_id, attempt, time, cpu, rss, system_load, system_memory)
     SELECT $1, $2, sample.*
     FROM unnest($3::timestamptz[], $4::float8[], $5::bigint[], $6::float8[], $7::bigint[]) AS sample
     ON CONFLICT DO NOTHING`,
    [
      runId,
      attempt,
      samples.map(({ time }) => time.toISOString()),
      samples.map(({ cpu }) => cpu),
      samples.map(({ rss }) => Math.round(rss)),
      samples.map(({ systemLoad }) => systemLoad ?? null),
      samples.map(({ systemMemory }) => (systemMemory == null ? null : Math.round(systemMemory))),
    ],
  )
}

/** Every step is of a whole batch. */
async function countImages(client: pg.ClientBase, { runId }: Fence, steps: number): Promise<void> {
  if (steps === 0) return
  const name: TallyName = 'images'
  await client.query(
    `INSERT INTO tally_log (name, count) SELECT $2, $3 * (definition #>> '{training,batchSize}')::bigint FROM runs
     WHERE id = $1 AND definition #>> '{training,batchSize}' IS NOT NULL`,
    [runId, name, steps],
  )
}

class BatchedJournal implements Journal {
  private readonly pool: pg.Pool
  private readonly fence: Fence
  private readonly patience: Patience
  private readonly onBroken: (error: Error) => void
  private waiting: Batch = { points: [], lines: [], samples: [], progress: undefined, steps: 0 }
  private lineCount = 0
  private timer: NodeJS.Timeout | undefined
  private writing: Promise<void> | undefined
  private broken: Error | undefined
  private notifiedAt = 0
  /** Something was written and not told yet. */
  private owed = false
  private closed = false

  constructor(pool: pg.Pool, fence: Fence, patience: Patience, onBroken: (error: Error) => void) {
    this.pool = pool
    this.fence = fence
    this.patience = patience
    this.onBroken = onBroken
  }

  points(points: readonly Point[]): void {
    this.check()
    this.waiting.points.push(...points)
    if (this.waiting.points.length > mostPoints) this.break(this.full('points'))
    this.schedule(this.waiting.points.length >= flushAt ? 0 : pace)
  }

  extra(points: readonly Point[]): void {
    if (!this.broken && !this.closed && points.length > 0) this.points(points)
  }

  line(level: LogLine['level'], text: string): void {
    if (this.broken || this.closed) return // who reports an error must not fail over it
    const cleaned = text.replaceAll('\0', '\ufffd').slice(0, longestLine)
    this.waiting.lines.push({ number: ++this.lineCount, time: new Date(), level, text: cleaned })
    if (this.waiting.lines.length > mostLines) this.break(this.full('log lines'))
    this.schedule(pace)
  }

  sample(usage: Usage): void {
    if (this.broken || this.closed) return
    this.waiting.samples.push(usage)
    this.schedule(pace)
  }

  progress(progress: Progress, steps: number): void {
    this.check()
    this.waiting.progress = progress
    this.waiting.steps += steps
    this.schedule(pace)
  }

  owe(): void {
    this.owed = true
    this.schedule(pace)
  }

  async flush(): Promise<void> {
    for (;;) {
      if (this.writing) await this.writing
      else if (this.isEmpty()) break
      else this.write()
      if (this.broken) throw this.broken
    }
    this.check()
  }

  async close(): Promise<void> {
    this.closed = true
    clearTimeout(this.timer)
    await this.writing
  }

  private full(what: string): Unavailable {
    return new Unavailable(
      `too many ${what} wait for the database`,
      'see that PostgreSQL runs; the run goes on from its last checkpoint',
    )
  }

  private isEmpty(): boolean {
    const { points, lines, samples, progress } = this.waiting
    return points.length + lines.length + samples.length === 0 && progress === undefined
  }

  private check(): void {
    if (this.broken) throw this.broken
  }

  private break(error: Error): void {
    if (this.broken) return
    this.broken = error
    clearTimeout(this.timer)
    if (!this.closed) this.onBroken(error)
  }

  private schedule(wait: number): void {
    if (this.writing || this.broken || this.closed || (this.timer && wait > 0)) return
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.write(), wait)
  }

  /** Writes what waits; never rejects. While it runs nothing else is written. */
  private write(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    const batch: Batch = { ...this.waiting, points: this.waiting.points.slice(0, pointsPerFlush) }
    const points = this.waiting.points.slice(pointsPerFlush)
    this.waiting = { points, lines: [], samples: [], progress: undefined, steps: 0 }
    // Two notifications are a pace apart; what is owed at the end comes with the run's next move.
    const notify = Date.now() - this.notifiedAt >= pace
    this.owed = !notify
    this.writing = persistently(this.patience, () => this.send(batch, notify))
      .then(() => {
        if (notify) this.notifiedAt = Date.now()
      })
      .catch((error: Error) => this.break(error))
      .finally(() => {
        this.writing = undefined
        if (!this.isEmpty() || this.owed) this.schedule(this.waiting.points.length >= flushAt ? 0 : pace)
      })
  }

  private send({ points, lines, samples, progress, steps }: Batch, notify: boolean): Promise<void> {
    const work = async (client: pg.PoolClient) => {
      if (points.length > 0) await appendPoints(client, this.fence, points)
      await writeLines(client, this.fence, lines)
      await writeSamples(client, this.fence, samples)
      await countImages(client, this.fence, steps)
    }
    return fenced(this.pool, this.fence, work, { progress, notify })
  }
}

export function openJournal(
  pool: pg.Pool,
  fence: Fence,
  patience: Patience,
  onBroken: (error: Error) => void,
): Journal {
  return new BatchedJournal(pool, fence, patience, onBroken)
}
