import type { Config } from '../config.ts'

/** In a terminal Ctrl-C reaches parent and child alike, and the parent asks with SIGTERM as well: one wish, not two. */
const oneWishMilliseconds = 1000

/** Resolves when this process is asked to end; asked again later, it ends at once. */
export function askedToStop(): Promise<'interrupted' | 'terminated' | 'orphaned'> {
  return new Promise((resolve) => {
    let first = 0
    const ask = (why: 'interrupted' | 'terminated' | 'orphaned') => {
      if (first > 0 && Date.now() - first > oneWishMilliseconds && why === 'interrupted') process.exit(130)
      first ||= Date.now()
      resolve(why)
    }
    process.on('SIGTERM', () => ask('terminated'))
    process.on('SIGINT', () => ask('interrupted'))
    process.on('disconnect', () => ask('orphaned'))
  })
}

/** Serves until asked to stop. Returns the exit code. */
export async function serveUntilStopped(served: { stop(): Promise<void> }): Promise<number> {
  await askedToStop()
  await served.stop()
  return 0
}

/**
 * The settings with the database's address. Where the process that started this one brings the database, the address
 * comes from it once the database is ready.
 */
export async function settled(config: Config, options: { awaitDatabase?: boolean }): Promise<Config> {
  if (!options.awaitDatabase) return config
  const databaseUrl = await new Promise<string>((resolve) => {
    process.on('message', (message: { type?: string; url?: string }) => {
      if (message.type === 'database' && message.url) resolve(message.url)
    })
    process.once('disconnect', () => process.exit(0))
  })
  return { ...config, databaseUrl }
}
