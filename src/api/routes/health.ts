import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { Unavailable } from '../../errors.ts'
import type { Parts } from '../parts.ts'

const patience = 3000

/** Rejects where a service neither answers nor refuses. */
async function within<T>(what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new Unavailable(`${what} gave no answer within ${patience / 1000} s`, 'see that it runs')),
      patience,
    )
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Calls at the same time share one turn of `work`. */
function together<T>(work: () => Promise<T>): () => Promise<T> {
  let turn: Promise<T> | undefined
  return () => {
    turn ??= work().finally(() => {
      turn = undefined
    })
    return turn
  }
}

/** Probes: alive is this process, ready is what it needs as well. Both are open. */
export function serveHealth(app: FastifyInstance, { database, objects, queue, version }: Parts): void {
  const config = { open: true }
  const answer = Type.Object({ status: Type.Literal('ok'), version: Type.String() })
  const schema = { tags: ['health'], security: [], response: { 200: answer } }
  app.get('/livez', { config, schema: { ...schema, summary: 'Whether this process runs' } }, () => ({
    status: 'ok',
    version,
  }))
  const ready = Type.Object({
    ...answer.properties,
    queue: Type.Enum(['ok', 'away'], {
      description: 'Away: runs are accepted and begin when it is back. Its Redis is meant; one in Postgres is ok.',
    }),
  })
  // Anybody may ask, and the object store is checked by writing to it.
  const checkObjects = together(() => objects.check())
  const summary = 'Whether Postgres and the object store answer'
  const askQueue = together(() => queue.counts())
  app.get('/readyz', { config, schema: { ...schema, summary, response: { 200: ready } } }, async () => {
    await within('Postgres', database.pool.query('SELECT 1'))
    await within('the object store', checkObjects())
    if (queue.backend === 'postgres') return { status: 'ok', version, queue: 'ok' }
    const answers = await within('the queue', askQueue()).then(
      () => 'ok',
      () => 'away',
    )
    return { status: 'ok', version, queue: answers }
  })
}
