/** The part of JSON Schema that our parameters use. */
export interface Schema {
  type?: string
  description?: string
  default?: unknown
  const?: unknown
  enum?: readonly unknown[]
  properties?: Record<string, Schema>
  required?: readonly string[]
  additionalProperties?: boolean
  items?: Schema
  anyOf?: readonly Schema[]
  oneOf?: readonly Schema[]
  discriminator?: { propertyName: string }
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  exclusiveMaximum?: number
  multipleOf?: number
  minLength?: number
  maxLength?: number
  pattern?: string
  minItems?: number
  maxItems?: number
  uniqueItems?: boolean
}

/** The name that sets a member of a union apart, where it has one. */
export function unitName(schema: Schema): string | undefined {
  const name = schema.properties?.name?.const
  return typeof name === 'string' ? name : undefined
}

/** A union of units told apart by `name`: a validator then reports the faults of the named one only. */
export function chooseByName(members: readonly Schema[], description?: string): Schema {
  return {
    type: 'object',
    ...(description ? { description } : {}),
    discriminator: { propertyName: 'name' },
    required: ['name'],
    oneOf: members,
  }
}

/**
 * The schema of what a person writes, from the schema of what is resolved: keys with a default may be left out, and
 * unions of units are told apart by name.
 */
export function asWritten(schema: Schema): Schema {
  const members = schema.anyOf ?? schema.oneOf
  if (members) {
    const written = members.map(asWritten)
    const { anyOf: _any, oneOf: _one, discriminator: _by, ...rest } = schema
    if (!members.every((member) => unitName(member) !== undefined)) return { ...rest, anyOf: written }
    return { ...rest, ...chooseByName(written, schema.description) }
  }
  if (schema.items) return { ...schema, items: asWritten(schema.items) }
  if (!schema.properties) return { ...schema }
  const entries = Object.entries(schema.properties)
  return {
    ...schema,
    additionalProperties: false,
    properties: Object.fromEntries(entries.map(([key, property]) => [key, asWritten(property)])),
    required: (schema.required ?? []).filter((key) => schema.properties?.[key]?.default === undefined),
  }
}

/** A copy of a valid value with every default in place, keys in the order of the schema. */
export function withDefaults(schema: Schema, value: unknown): unknown {
  if (schema.oneOf && schema.discriminator) {
    const name = (value as { name: string }).name
    const member = schema.oneOf.find((candidate) => unitName(candidate) === name)
    return member ? withDefaults(member, value) : value
  }
  if (schema.items && Array.isArray(value)) {
    const items = schema.items
    return value.map((item) => withDefaults(items, item))
  }
  if (!schema.properties || typeof value !== 'object' || value === null) return value
  const given = value as Record<string, unknown>
  const resolved: Record<string, unknown> = {}
  for (const [key, property] of Object.entries(schema.properties)) {
    const item = Object.hasOwn(given, key) ? given[key] : structuredClone(property.default)
    if (item !== undefined) resolved[key] = withDefaults(property, item)
  }
  return resolved
}

function span(least: number | undefined, most: number | undefined, unit: string): string {
  if (least !== undefined && most !== undefined)
    return least === most ? `${least} ${unit}` : `${least} to ${most} ${unit}`
  if (least !== undefined) return `at least ${least} ${unit}`
  return most === undefined ? '' : `at most ${most} ${unit}`
}

function limits(schema: Schema): string {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema
  if (minimum !== undefined && maximum !== undefined) return ` from ${minimum} to ${maximum}`
  const parts = [
    exclusiveMinimum === undefined ? '' : `above ${exclusiveMinimum}`,
    minimum === undefined ? '' : `of at least ${minimum}`,
    exclusiveMaximum === undefined ? '' : `below ${exclusiveMaximum}`,
    maximum === undefined ? '' : `of at most ${maximum}`,
    multipleOf === undefined ? '' : `in steps of ${multipleOf}`,
  ].filter(Boolean)
  return parts.length > 0 ? ` ${parts.join(' and ')}` : ''
}

function describeList(schema: Schema): string {
  const size = span(schema.minItems, schema.maxItems, 'items')
  const items = schema.items ? `${size ? ', ' : ' of items, '}each ${inWords(schema.items)}` : ''
  return `a list${size ? ` of ${size}` : ''}${items}${schema.uniqueItems ? ', none twice' : ''}`
}

/** What a schema asks for, in words: 'a whole number from 1 to 10'. */
export function inWords(schema: Schema): string {
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (schema.enum) return `one of: ${schema.enum.map((value) => JSON.stringify(value)).join(', ')}`
  if (schema.anyOf) return schema.anyOf.map(inWords).join(' or ')
  if (schema.oneOf) return `an object whose name is one of: ${schema.oneOf.map(unitName).join(', ')}`
  if (schema.type === 'integer') return `a whole number${limits(schema)}`
  if (schema.type === 'number') return `a number${limits(schema)}`
  if (schema.type === 'boolean') return 'true or false'
  if (schema.type === 'array') return describeList(schema)
  if (schema.type === 'object') return `an object with the keys: ${Object.keys(schema.properties ?? {}).join(', ')}`
  const size = span(schema.minLength, schema.maxLength, 'characters')
  return `text${size ? ` of ${size}` : ''}`
}
