import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openWorld, type World } from './world.ts'

let world: World
beforeAll(async () => {
  world = await openWorld()
})
afterAll(() => world.close())

describe('the documentation', () => {
  it('is OpenAPI 3.1 and describes every route with the schema of the definition in it', async () => {
    const document = (await world.send('/openapi.json')).json()
    expect(document.openapi).toBe('3.1.0')
    expect(Object.keys(document.paths).sort()).toEqual([
      '/livez',
      '/metrics',
      '/readyz',
      '/v1/artifacts/{id}',
      '/v1/checkpoints/{id}',
      '/v1/checkpoints/{id}/export',
      '/v1/datasets',
      '/v1/datasets/sets',
      '/v1/datasets/sets/{name}',
      '/v1/datasets/sets/{name}/preview',
      '/v1/datasets/sets/{name}/verify',
      '/v1/evaluations',
      '/v1/experiments',
      '/v1/experiments/{id}',
      '/v1/methods',
      '/v1/nets',
      '/v1/runs',
      '/v1/runs/{id}',
      '/v1/runs/{id}/cancel',
      '/v1/runs/{id}/export',
      '/v1/runs/{id}/log',
      '/v1/runs/{id}/metrics',
      '/v1/weights',
      '/v1/weights/{name}',
    ])
    const { post } = document.paths['/v1/experiments']
    const { schema } = post.requestBody.content['application/json']
    expect(Object.keys(schema.properties)).toEqual(expect.arrayContaining(['dataset', 'net', 'method', 'training']))
    expect(JSON.stringify(schema)).toContain('bankMomentum')
    expect(post.responses['400'].content).toHaveProperty('application/problem+json')
    for (const path of Object.values<Record<string, { summary?: string }>>(document.paths))
      for (const operation of Object.values(path)) expect(operation.summary).toMatch(/\S/)
  })

  it.each(['/docs', '/graphiql'])(
    'serves %s and all it needs itself, under a policy that allows nothing else',
    async (page) => {
      const response = await world.send(page)
      expect(response.statusCode).toBe(200)
      expect(response.headers['content-security-policy']).toContain("script-src 'self';")
      expect(response.body).not.toMatch(/(src|href)="(https?:)?\/\//)
      const links = [...response.body.matchAll(/(?:src|href)="(?!data:)([^"]+)"/g)].map((match) => match[1]!)
      expect(links.length).toBeGreaterThan(3)
      for (const link of links) {
        const asset = await world.send(new URL(link, `http://host${page}`).pathname)
        expect([link, asset.statusCode]).toEqual([link, 200])
      }
    },
  )

  it('leads from the root to the playground', async () => {
    const response = await world.send('/')
    expect([response.statusCode, response.headers.location]).toEqual([302, '/graphiql'])
  })
})
