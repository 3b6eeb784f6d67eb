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
