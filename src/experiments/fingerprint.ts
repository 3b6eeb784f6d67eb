import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { Definition } from './definition.ts'
import { definitionSchema } from './definition.ts'
import { type Schema, unitName, withDefaults } from './schema.ts'

/**
 * The keys that the first version knew; they count whatever they are. A key that came later counts only where it is not
 * at its default, which does what was done before: a checkpoint made then still fits.
 */
const firstKeys: Record<string, readonly string[]> = {
  'dataset fashion-mnist': ['limit'],
  'dataset fashion-mnist-12k': ['limit'],
  'dataset shapes': ['images', 'testImages', 'classes', 'height', 'width', 'channels', 'clutter', 'noise', 'seed'],
  'net small': ['widths'],
  'method npid': [
    'dimension',
    'temperature',
    'head',
    'negatives',
    'negativesFor',
    'loss',
    'zMode',
    'bankMomentum',
    'bankStart',
    'proximal',
  ],
  training: ['epochs', 'batchSize', 'optimizer', 'schedule', 'checkpointEverySteps'],
  'training/optimizer sgd': ['learningRate', 'momentum', 'weightDecay'],
  'training/schedule constant': ['warmUpSteps'],
  'training/schedule cosine': ['warmUpSteps'],
  'training/schedule step': ['epochs', 'factor', 'warmUpSteps'],
}

/** A part of a definition without what does not count. */
function essential(schema: Schema | undefined, value: unknown, place: string): unknown {
  if (typeof value !== 'object' || value === null || !schema) return value
  const { name } = value as { name?: string }
  const member = schema.oneOf ? schema.oneOf.find((one) => unitName(one) === name) : schema
  const properties = member?.properties
  if (!properties) return value
  const first = firstKeys[schema.oneOf ? `${place} ${name}` : place] ?? []
  const counts = ([key, item]: [string, unknown]) => {
    const property = properties[key]
    if (!property || first.includes(key)) return true
    return !isDeepStrictEqual(item, withDefaults(property, structuredClone(property.default)))
  }
  const counted = Object.entries(value).filter(counts)
  return Object.fromEntries(counted.map(([key, item]) => [key, essential(properties[key], item, `${place}/${key}`)]))
}

/** The same for definitions that train alike: the name, the tags and the evaluations do not count. */
export function trainingFingerprint({
  version,
  seed,
  dataset,
  net,
  method,
  views,
  training,
  from,
}: Definition): string {
  const sorted = (_: string, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value
  const { properties } = definitionSchema as Schema
  const units = Object.entries({ dataset, net, method, training })
  const parts = units.map(([part, value]) => [part, essential(properties?.[part], value, part)])
  // What the weights are taken from counts by its bytes, wherever they lie.
  const start = from && { from: { sha256: from.sha256, parts: from.parts, layers: from.layers } }
  const more = { ...(views ? { views } : {}), ...start }
  return createHash('sha256')
    .update(JSON.stringify({ version, seed, ...Object.fromEntries(parts), ...more }, sorted))
    .digest('hex')
}
