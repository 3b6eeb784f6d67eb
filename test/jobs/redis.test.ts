import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { describe, expect, it } from 'vitest'
import { openQueue } from '../../src/jobs/queue.ts'
import { hasRedis, startRedisService } from '../production/services.ts'

const databaseUrl = 'postgresql://nobody@127.0.0.1:1/none'
const open = (redisUrl: string) => openQueue({ databaseUrl, redisUrl })

describe.skipIf(!hasRedis)('a queue on Redis', () => {
  it.each([
    ['forgets keys', ['--maxmemory-policy', 'allkeys-lru'], /forgets keys .*allkeys-lru.*noeviction/s],
    ['is a replica', ['--replicaof', '127.0.0.1', '1'], /is a replica.*primary/s],
    ['wants a password', ['--requirepass', 'a-password'], /refuses us: NOAUTH.*REDIS_URL/s],
  ])('is refused where Redis %s', async (_, options, words) => {
    const service = await startRedisService(['redis-server', '--save', '', ...options])
    const refusal = await open(`redis://127.0.0.1:${service.port}`).catch((error: unknown) => error)
    await service.close()
    expect(refusal).toMatchObject({ code: 'misconfigured' })
    const { message, cure } = refusal as { message: string; cure: string }
    expect(`${message}: ${cure}`).toMatch(words)
  })

  it('is taken where the password fits and nothing is forgotten', async () => {
    const service = await startRedisService(['redis-server', '--save', '', '--requirepass', 'a-password'])
    const queue = await open(`redis://:a-password@127.0.0.1:${service.port}`)
    expect(await queue.counts()).toMatchObject({ waiting: 0 })
    await queue.close()
    await service.close()
  })
})

it('is refused where Redis is too old', async () => {
  // Speaks as much of Redis' protocol as it takes to say its version.
  const info = 'redis_version:5.0.14\r\nloading:0\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n'
  const server = createServer((client) => {
    client.on('data', (bytes) => {
      for (const [, name] of String(bytes).matchAll(/^\*\d+\r\n\$\d+\r\n(\w+)\r\n/gm))
        client.write(name!.toLowerCase() === 'info' ? `$${info.length}\r\n${info}\r\n` : '+OK\r\n')
    })
    client.on('error', () => {})
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await expect(open(`redis://127.0.0.1:${port}`)).rejects.toMatchObject({
    ...{ code: 'misconfigured', message: "the queue's Redis has version 5.0.14" },
    cure: expect.stringContaining('6.2.0 or later'),
  })
  server.close()
})
