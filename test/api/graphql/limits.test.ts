import { getIntrospectionQuery } from 'graphql'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { acceptRun, openWorld, type World } from '../world.ts'

let world: World
beforeAll(async () => {
  world = await openWorld()
  await acceptRun(world.parts)
})
afterAll(() => world.close())

const nested = (depth: number) => {
  let query = 'id'
  for (let i = 0; i < depth; i++) query = i % 2 ? `runs { ${query} }` : `experiment { ${query} }`
  return `{ runs(first: 1) { nodes { ${query} } } }`
}

async function refusal(query: string, variables?: Record<string, unknown>): Promise<string | undefined> {
  const { errors } = await world.query(query, variables)
  if (errors) expect(errors[0]!.extensions).toMatchObject({ code: 'too-much', cure: expect.any(String) })
  return errors?.[0]?.message
}

describe('the limits of a query', () => {
  it('lets the introspection of GraphiQL pass, and no deeper one', async () => {
    const query = getIntrospectionQuery({
      descriptions: true,
      inputValueDeprecation: true,
      specifiedByUrl: true,
      schemaDescription: true,
    })
    expect((await world.query(query)).data.__schema.queryType.name).toBe('Query')
    const deep =
      '{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }'
    expect((await world.query(deep)).errors).toMatchObject([{ message: expect.stringMatching(/introspection depth/i) }])
  })

  it('refuses what is too deep, by fragments too', async () => {
    expect(await refusal(nested(3))).toBeUndefined()
    expect(await refusal(nested(13))).toMatch(/16 deep and may be 14/)
    const fragment = `query { ...F } fragment F on Query { runs(first: 1) { nodes { ...G } } }
      fragment G on Run { ${nested(13)
        .replace(/^.*?nodes \{/, '')
        .replace(/\} \} \}$/, '')} }`
    expect(await refusal(fragment)).toMatch(/deep/)
  })

  it('refuses what would answer too much, knowing the variables', async () => {
    const query = `query ($first: Int!, $points: Int!) { runs(first: $first) { nodes {
      metrics(names: ["loss", "learningRate"], maxPoints: $points) { points { value } }
    } } }`
    expect(await refusal(query, { first: 50, points: 500 })).toBeUndefined()
    expect(await refusal(query, { first: 100, points: 10_000 })).toMatch(/objects and may ask for 100000/)
    expect(await refusal('{ runs(first: 100) { nodes { log(last: 10000) { text } } } }')).toMatch(/objects/)
    expect(
      await refusal(
        '{ runs(first: 100) { nodes { experiment { runs { experiment { runs { metrics { name } } } } } } } }',
      ),
    ).toMatch(/objects/)
  })

  it('counts a fragment as often as it is spread', async () => {
    const bomb = Array.from(
      { length: 20 },
      (_, i) => `fragment F${i} on Run { experiment { runs { ...F${i + 1} ...F${i + 1} } } }`,
    )
    const query = `{ runs { nodes { ...F16 } } } ${bomb.slice(16).join(' ')} fragment F20 on Run { id }`
    expect(await refusal(query)).toBeUndefined()
    const wide = Array.from(
      { length: 20 },
      (_, i) =>
        `fragment F${i} on Run { progress { ${'step '.repeat(2)} } ...F${i + 1} attempts { number } ...F${i + 1} }`,
    )
    expect(
      await refusal(`{ runs { nodes { ...F0 } } } ${wide.join(' ')} fragment F20 on Run { id attempts { number } }`),
    ).toMatch(/objects/)
  })

  it('bounds aliases, pages, points and the length of a document', async () => {
    const aliases = Array.from({ length: 41 }, (_, i) => `a${i}: queue { waiting }`)
    expect(await refusal(`{ ${aliases.join(' ')} }`)).toMatch(/41 aliases and may have 40/)
    for (const query of [
      '{ runs(first: 101) { nodes { id } } }',
      '{ runs(first: 0) { nodes { id } } }',
      '{ runs { nodes { metrics(maxPoints: 1) { name } } } }',
    ])
      expect((await world.query(query)).errors).toMatchObject([{ extensions: { code: 'invalid-definition' } }])
    const { errors } = await world.query(`{ ${'queue { waiting } '.repeat(1500)} }`)
    expect(errors).toMatchObject([
      { message: expect.stringContaining('tokens'), extensions: { code: 'invalid-query' } },
    ])
  })

  it('gives no more than a handful of errors for a document that is wrong everywhere', async () => {
    const { errors } = await world.query(`{ ${Array.from({ length: 200 }, (_, i) => `wrong${i}`).join(' ')} }`)
    expect(errors!.length).toBeLessThan(30)
  })
})
