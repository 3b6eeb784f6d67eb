import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { nearestName } from '../../src/data/nearest-name.ts'
import { type Fault, InvalidDefinition } from '../../src/errors.ts'
import { definitionSchema, parseDefinition } from '../../src/experiments/definition.ts'
import { trainingFingerprint } from '../../src/experiments/fingerprint.ts'
import { listUnits, unitKinds } from '../../src/experiments/units.ts'

/** As it stands in the requirement. */
const example = {
  version: 1,
  name: 'npid-fashion',
  tags: ['demo'],
  notes: '',
  seed: 7,
  priority: 0,
  dataset: { name: 'fashion-mnist-12k', limit: 10000 },
  net: { name: 'small', widths: [16, 32, 64] },
  method: {
    name: 'npid',
    dimension: 128,
    temperature: 0.07,
    negatives: 'all',
    bankMomentum: 0.5,
    bankStart: 'features',
    proximal: 0,
  },
  training: {
    epochs: 8,
    batchSize: 128,
    optimizer: { name: 'sgd', learningRate: 0.03, momentum: 0.9, weightDecay: 0.0005 },
    schedule: { name: 'cosine', warmUpSteps: 50 },
    checkpointEverySteps: 100,
  },
  evaluations: [{ name: 'nearest-neighbours', k: [1, 5, 10, 20, 200], temperature: 0.1 }],
}

const least = {
  version: 1,
  name: 'least',
  dataset: { name: 'shapes' },
  net: { name: 'small' },
  method: { name: 'npid' },
  training: {},
}

function faultsOf(value: unknown): readonly Fault[] {
  try {
    parseDefinition(value)
  } catch (error) {
    if (error instanceof InvalidDefinition) return error.faults
    throw error
  }
  return []
}

/** A copy of the example with something else at a pointer; undefined takes it away. */
function changed(pointer: string, value: unknown): unknown {
  const copy = structuredClone(example) as unknown as Record<string, unknown>
  const keys = pointer.split('/').slice(1)
  const last = keys.pop()!
  const at = keys.reduce((item, key) => item[key] as Record<string, unknown>, copy)
  if (value === undefined) delete at[last]
  else at[last] = value
  return copy
}

describe('a definition', () => {
  it('is accepted as it stands in the requirement, and nothing that was written is changed', () => {
    const parsed = parseDefinition(structuredClone(example))
    expect(parsed).toMatchObject(example)
    expect(parseDefinition(parsed)).toEqual(parsed)
  })

  it('gets every default, and is not changed itself', () => {
    const asked = structuredClone(least)
    const parsed = parseDefinition(asked)
    expect(asked).toEqual(least)
    expect(parsed).toMatchObject({ tags: [], notes: '', seed: 0, priority: 0, evaluations: [] })
    expect(parsed.dataset).toMatchObject({ name: 'shapes', images: 1000, height: 28, channels: 1 })
    expect(parsed.net).toEqual({
      name: 'small',
      widths: [16, 32, 64],
      convs: [1],
      order: 'pool-norm-relu',
      pool: 'max',
      norm: 'batch',
      globalMean: false,
      dense: [],
      dropout: 0,
      dropoutAt: 'before',
      input: 'none',
    })
    expect(parsed.training.optimizer).toMatchObject({ name: 'sgd', momentum: 0.9 })
    expect(parsed.embeddings).toEqual({ dtype: 'f32' })
    expect(parseDefinition(parsed)).toEqual(parsed)
    // Defaults are copies: what one caller does to them does not reach the next.
    parsed.tags.push('x')
    expect(parseDefinition(least).tags).toEqual([])
  })

  it.each([
    ['/version', 2, '/version', /is 2; it should be 1/],
    ['/version', undefined, '/version', /is missing; it should be 1/],
    ['/name', '', '/name', /is the text ""; it should be text of 1 to 200 characters/],
    ['/name', '  ', '/name', /one line, not only blanks/],
    ['/name', 'a\nb', '/name', /one line, not only blanks/],
    ['/name', 'a\ud800', '/name', /one line/],
    ['/name', 'x'.repeat(201), '/name', /text of 1 to 200 characters/],
    ['/name', 7, '/name', /is 7; it should be text/],
    ['/embeddings', { dtype: 'f64' }, '/embeddings/dtype', /the text "f64"; it should be "f32" or "f16"/],
    ['/notes', 'a\0b', '/notes', /Free text without NUL/],
    ['/notes', 'x'.repeat(10_001), '/notes', /at most 10000 characters/],
    ['/tags', 'demo', '/tags', /is the text "demo"; it should be a list of at most 32 items/],
    ['/tags', ['a', 'b', 'a'], '/tags', /the same item twice, at places 0 and 2/],
    ['/tags/0', 'x'.repeat(65), '/tags/0', /text of 1 to 64 characters/],
    ['/seed', -1, '/seed', /is -1; it should be a whole number from 0 to 4294967295/],
    ['/seed', 1.5, '/seed', /is 1.5; it should be a whole number/],
    ['/seed', '7', '/seed', /is the text "7"; it should be a whole number/],
    ['/priority', 101, '/priority', /from -100 to 100/],
    ['/priorty', 1, '/priorty', /no such key here; the keys are: version, name, .* — did you mean 'priority'\?/],
    ['/dataset', undefined, '/dataset', /is missing; it should be an object whose name is one of: .*fashion-mnist, /],
    ['/dataset', 'shapes', '/dataset', /is the text "shapes"; it should be an object whose name is one of/],
    ['/dataset', null, '/dataset', /is null; it should be an object/],
    ['/dataset/name', undefined, '/dataset/name', /is missing; it should be one of: .*fashion-mnist, /],
    ['/dataset/name', 'fashion-minst', '/dataset/name', /no dataset 'fashion-minst'; there are: .*'fashion-mnist'\?/],
    ['/dataset/limit', 0, '/dataset/limit', /is 0; it should be a whole number of at least 1/],
    ['/method/name', 'npdi', '/method/name', /^no method 'npdi'; there are: .*npid.* — did you mean 'npid'\?$/],
    ['/method/name', 'constructor', '/method/name', /^no method 'constructor'; there are: .*npid/],
    ['/method/name', 3, '/method/name', /is 3; it should be one of: .*npid/],
    ['/method/temprature', 0.1, '/method/temprature', /did you mean 'temperature'\?/],
    ['/method/temperature', 0, '/method/temperature', /is 0; it should be a number /],
    ['/method/temperature', Number.NaN, '/method/temperature', /is NaN; it should be a number/],
    ['/method/temperature', Number.POSITIVE_INFINITY, '/method/temperature', /is Infinity; it should be a number/],
    ['/method/negatives', 'some', '/method/negatives', /is the text "some"; it should be "all" or a whole number/],
    ['/method/negatives', 0, '/method/negatives', /is 0; it should be "all" or a whole number/],
    ['/net/widths', [], '/net/widths', /is an empty list; it should be a list of 1 to 8 items, each a whole number/],
    ['/net/widths/1', '32', '/net/widths/1', /is the text "32"; it should be a whole number/],
    [
      '/training/optimizer/name',
      'adma',
      '/training/optimizer/name',
      /no optimizer 'adma'; there are: sgd, lars, adam, adamw — did you mean 'adam'\?$/,
    ],
    ['/training/schedule/name', 'cosin', '/training/schedule/name', /did you mean 'cosine'/],
    [
      '/training/schedule/epochs',
      [1],
      '/training/schedule/epochs',
      /no such key here; the keys are: name, warmUpSteps/,
    ],
    ['/evaluations/0/name', 'knn', '/evaluations/0/name', /no evaluation 'knn'; there are: .*nearest-neighbours/],
    ['/evaluations', {}, '/evaluations', /is an object; it should be a list/],
    [
      '/resources',
      { gpuMemory: '8GiB' },
      '/resources/gpuMemory',
      /the text "8GiB"; it should be a whole number.*in bytes/,
    ],
    ['/resources', { gpuMemory: 8 }, '/resources/gpuMemory', /is 8; it should be a whole number from 1048576 to/],
    [
      '/resources',
      { gpuMemory: 2 ** 30, gpu: false },
      '/resources/gpu',
      /is false, and gpuMemory asks for a GPU; leave/,
    ],
    ['/resources', { gpumemory: 1 }, '/resources/gpumemory', /did you mean 'gpuMemory'\?/],
  ])('with a fault at %s (%j) is told the place and what would have been right', (at, value, pointer, words) => {
    const faults = faultsOf(changed(at, value))
    expect(faults.map((fault) => fault.pointer)).toEqual([pointer])
    expect(faults[0]!.detail).toMatch(words)
  })

  it('is told all its faults at once', () => {
    const { name: _, ...rest } = structuredClone(example)
    const bad = {
      ...rest,
      sed: 1,
      dataset: { name: 'shapes', limits: 3 },
      method: { name: 'npdi' },
      training: { epochs: 0, batchSize: '128', optimizer: { name: 'sgd', momentum: 1 } },
      evaluations: [{ name: 'nearest-neighbours', k: [0] }, 'x'],
    }
    expect(faultsOf(bad).map((fault) => fault.pointer)).toEqual([
      '/dataset/limits',
      '/evaluations/0/k/0',
      '/evaluations/1',
      '/method/name',
      '/name',
      '/sed',
      '/training/batchSize',
      '/training/epochs',
      '/training/optimizer/momentum',
    ])
  })

  it('asks for a GPU by asking for its memory, and for nothing where it says nothing', () => {
    const parsed = parseDefinition(changed('/resources', { gpuMemory: 2 ** 33 }))
    expect(parsed.resources).toEqual({ gpu: true, gpuMemory: 2 ** 33, engine: 'any', cores: 1, memoryBytes: 0 })
    expect(parseDefinition(parsed)).toEqual(parsed)
    expect(parseDefinition(example).resources).toEqual({ gpu: false, engine: 'any', cores: 1, memoryBytes: 0 })
  })

  it('trains alike whatever it asks of its worker, so that its checkpoints fit', () => {
    const asking = parseDefinition(changed('/resources', { gpuMemory: 2 ** 33 }))
    expect(trainingFingerprint(asking)).toBe(trainingFingerprint(parseDefinition(example)))
  })

  it.each([[undefined], [null], [[]], ['text'], [7]])('is refused where it is %j', (value) => {
    const faults = faultsOf(value)
    expect(faults).toHaveLength(1)
    expect(faults[0]!.pointer).toBe('')
    expect(faults[0]!.detail).toMatch(/it should be an object with the keys: version, name/)
  })

  it('that is nested too deep, too large or goes round in circles is refused before it is looked at', () => {
    let deep: unknown = 1
    for (let i = 0; i < 100_000; i++) deep = [deep]
    expect(faultsOf({ ...example, notes: deep })[0]!.detail).toMatch(/nested more than 16 levels deep/)
    expect(faultsOf({ ...example, tags: new Array(100_000).fill(1) })[0]!.detail).toMatch(/more than 5000 values/)
    const circle: Record<string, unknown> = {}
    circle.circle = circle
    expect(faultsOf(circle)[0]!.detail).toMatch(/nested more than 16/)
  })

  it('with very many faults names the first hundred', () => {
    const many = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`key${i}`, i]))
    const faults = faultsOf({ ...example, ...many })
    expect(faults).toHaveLength(101)
    expect(faults.at(-1)!.detail).toBe('and 200 more faults')
  })

  it('does not let keys of the prototype pass', () => {
    const faults = faultsOf(JSON.parse(JSON.stringify(example).replace('"seed":7', '"__proto__":{"seed":7}')))
    expect(faults.map((fault) => fault.pointer)).toEqual(['/__proto__'])
    expect(faultsOf({ ...example, toString: 1 }).map((fault) => fault.pointer)).toEqual(['/toString'])
  })

  it('escapes odd keys in pointers', () => {
    expect(faultsOf({ ...example, 'a/b~c': 1 }).map((fault) => fault.pointer)).toEqual(['/a~1b~0c'])
  })
})

describe('the schema of the definition', () => {
  it('is a valid JSON schema 2020-12 in which everything has a description and nothing more is allowed', () => {
    expect(() => new Ajv2020({ discriminator: true, strictTypes: false }).compile(definitionSchema)).not.toThrow()
    const nameless: string[] = []
    const walk = (schema: Record<string, unknown>, path: string) => {
      if (schema.type === 'object' && schema.properties && schema.additionalProperties !== false)
        nameless.push(`${path} allows more`)
      for (const [key, property] of Object.entries((schema.properties ?? {}) as Record<string, typeof schema>)) {
        if (!property.description) nameless.push(`${path}/${key}`)
        walk(property, `${path}/${key}`)
      }
      for (const member of (schema.oneOf ?? []) as (typeof schema)[]) walk(member, path)
      if (schema.items) walk(schema.items as typeof schema, `${path}/items`)
    }
    walk(definitionSchema as unknown as Record<string, unknown>, '')
    expect(nameless).toEqual([])
  })

  it('is plain JSON, and its own defaults are valid', () => {
    expect(JSON.parse(JSON.stringify(definitionSchema))).toEqual(definitionSchema)
    expect(() => parseDefinition(parseDefinition(least))).not.toThrow()
  })
})

describe('the list of units', () => {
  it('names every unit with what may stand beside its name', () => {
    for (const kind of unitKinds)
      for (const unit of listUnits(kind)) {
        expect(unit.title).not.toBe('')
        expect(unit.paper ?? unit.source).toBeTruthy()
        expect(unit.parameters.additionalProperties).toBe(false)
      }
    expect(listUnits('methods').map(({ name }) => name)).toContain('npid')
  })
})

describe('the nearest name', () => {
  it('is one that a slip of the fingers away, or none', () => {
    expect(nearestName('npdi', ['npid', 'deepcluster'])).toBe('npid')
    expect(nearestName('NearestNeighbours', ['nearest-neighbours'])).toBe('nearest-neighbours')
    expect(nearestName('learning_rate', ['learningRate', 'momentum'])).toBe('learningRate')
    expect(nearestName('zzz', ['npid'])).toBeUndefined()
    expect(nearestName('x'.repeat(100), ['npid'])).toBeUndefined()
  })
})
