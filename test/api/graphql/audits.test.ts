import { serverAudits } from 'graphql-http'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openWorld, type World } from '../world.ts'

let world: World
let url: string
beforeAll(async () => {
  world = await openWorld()
  url = `${await world.listen()}/graphql`
})
afterAll(() => world.close())

const audits = serverAudits({ url: () => url, fetchFn: fetch })

describe('GraphQL over HTTP', () => {
  it('is judged by all 61 audits', () => {
    expect(audits).toHaveLength(61)
  })

  // Three times: the second time the query is cached, the third time it is compiled.
  it.each(audits.map(({ id, name, fn }) => [id, name, fn] as const))('passes %s: %s', async (_id, _name, fn) => {
    for (let i = 0; i < 3; i++) {
      const result = await fn()
      expect(result.status, 'reason' in result ? result.reason : '').toBe('ok')
    }
  })
})
