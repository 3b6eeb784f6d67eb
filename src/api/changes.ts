import { Unavailable } from '../errors.ts'
import { channels, listen, readNotice } from '../store/listen.ts'
import { translateDatabaseError } from '../store/pool.ts'

/** Who follows a run. At most one change waits for each, whatever happens meanwhile. */
interface Watcher {
  dirty: boolean
  wake: () => void
}

/** What a reading gave: nothing new, or a value; `last` ends the feed after it. */
export interface Reading<T> {
  value: T | undefined
  last: boolean
}

/** What a feed brings: a value, or the error that ends it. */
export type News<T> = { value: T } | { error: unknown }

/**
 * The changes of runs as this process hears of them over one LISTEN connection. A notification carries no data: who
 * follows reads anew, and does so after a lost connection as well, so nothing is missed for good.
 */
export interface Changes {
  /**
   * Reads at once, then after each change of the run, at most once every 250 ms and only when the value before was
   * taken. Ends after the last reading, or with `return`.
   */
  follow<T>(runId: string, read: () => Promise<Reading<T>>): AsyncIterableIterator<News<T>>
  close(): Promise<void>
}

/** Milliseconds between two readings of a run, and before one that failed is tried again. */
const pace = 250
const retry = 2000
const mostWatchers = 2000

/** The watchers of one run, woken together so that what they read is read in one statement. */
interface Topic {
  watchers: Set<Watcher>
  wokenAt: number
  timer: NodeJS.Timeout | undefined
}

class Topics {
  private readonly topics = new Map<string, Topic>()
  private count = 0

  add(runId: string, watcher: Watcher): void {
    if (this.count >= mostWatchers)
      throw new Unavailable(`this process already serves ${mostWatchers} subscriptions`, 'close some, or ask another')
    const topic = this.topics.get(runId) ?? { watchers: new Set(), wokenAt: 0, timer: undefined }
    this.topics.set(runId, topic)
    topic.watchers.add(watcher)
    this.count++
  }

  remove(runId: string, watcher: Watcher): void {
    const topic = this.topics.get(runId)
    if (!topic?.watchers.delete(watcher)) return
    this.count--
    if (topic.watchers.size > 0) return
    clearTimeout(topic.timer)
    this.topics.delete(runId)
  }

  touch(runId: string): void {
    const topic = this.topics.get(runId)
    if (!topic || topic.timer) return
    const rest = topic.wokenAt + pace - Date.now()
    if (rest <= 0) wake(topic)
    else topic.timer = setTimeout(() => wake(topic), rest)
  }

  touchAll(): void {
    for (const runId of this.topics.keys()) this.touch(runId)
  }
}

function wake(topic: Topic): void {
  topic.timer = undefined
  topic.wokenAt = Date.now()
  for (const watcher of topic.watchers) {
    watcher.dirty = true
    watcher.wake()
  }
}

/** An iterator of its own, since `return` of an async generator waits for the change it is waiting for. */
class Feed<T> implements AsyncIterableIterator<News<T>> {
  private readonly watcher: Watcher = { dirty: true, wake: () => {} }
  private readonly topics: Topics
  private readonly runId: string
  private readonly read: () => Promise<Reading<T>>
  private open = true

  constructor(topics: Topics, runId: string, read: () => Promise<Reading<T>>) {
    this.topics = topics
    this.runId = runId
    this.read = read
    topics.add(runId, this.watcher)
  }

  async next(): Promise<IteratorResult<News<T>>> {
    while (this.open) {
      if (!this.watcher.dirty)
        await new Promise<void>((resolve) => {
          this.watcher.wake = resolve
        })
      if (!this.open) break
      this.watcher.dirty = false
      const news = await this.news()
      if (news) return { value: news, done: false }
    }
    return { value: undefined, done: true }
  }

  /** While Postgres is away there is nothing new; the next reading follows when LISTEN is back, or some time later. */
  private async news(): Promise<News<T> | undefined> {
    try {
      const { value, last } = await this.read()
      if (last) this.end()
      return value === undefined ? undefined : { value }
    } catch (error) {
      if (translateDatabaseError(error) instanceof Unavailable) {
        setTimeout(() => this.topics.touch(this.runId), retry).unref()
        return undefined
      }
      this.end()
      return { error }
    }
  }

  private end(): void {
    this.open = false
    this.topics.remove(this.runId, this.watcher)
    this.watcher.wake()
  }

  async return(): Promise<IteratorResult<News<T>>> {
    this.end()
    return { value: undefined, done: true }
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}

export async function openChanges(url: string): Promise<Changes> {
  const topics = new Topics()
  const listener = await listen(url, [channels.runs], {
    onMessage(_channel, payload) {
      const notice = readNotice(payload)
      if (notice) topics.touch(notice.runId)
    },
    onReconnect: () => topics.touchAll(),
  })
  return {
    follow: (runId, read) => new Feed(topics, runId, read),
    close: () => listener.close(),
  }
}
