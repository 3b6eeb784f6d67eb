import { GraphQLError, GraphQLScalarType, Kind, valueFromASTUntyped } from 'graphql'

function readDate(value: unknown): Date {
  const date = typeof value === 'string' && /^\d{4}-\d\d-\d\d/.test(value) ? new Date(value) : undefined
  if (!date || Number.isNaN(date.getTime()))
    throw new GraphQLError(`'${String(value)}' is not an instant; write it as 2026-01-31T12:00:00Z`)
  return date
}

function readInteger(value: unknown): bigint {
  if (
    (typeof value === 'number' && Number.isSafeInteger(value)) ||
    (typeof value === 'string' && /^-?\d+$/.test(value))
  )
    return BigInt(value)
  throw new GraphQLError(`'${String(value)}' is not a whole number`)
}

export const DateTime = new GraphQLScalarType<Date, string>({
  name: 'DateTime',
  serialize: (value) => (value instanceof Date ? value : readDate(value)).toISOString(),
  parseValue: readDate,
  parseLiteral: (node) => readDate(node.kind === Kind.STRING ? node.value : undefined),
})

export const JSONValue = new GraphQLScalarType<unknown, unknown>({
  name: 'JSON',
  serialize: (value) => value,
  parseValue: (value) => value,
  parseLiteral: (node, variables) => valueFromASTUntyped(node, variables),
})

export const BigIntValue = new GraphQLScalarType<bigint, number | string>({
  name: 'BigInt',
  serialize(value) {
    if (typeof value === 'number' && Number.isSafeInteger(value)) return value
    const whole = typeof value === 'number' && Number.isInteger(value) ? BigInt(value) : value
    return typeof whole === 'bigint' ? whole.toString() : readInteger(whole).toString()
  },
  parseValue: readInteger,
  parseLiteral: (node) => readInteger(node.kind === Kind.INT || node.kind === Kind.STRING ? node.value : undefined),
})

export const scalars = { DateTime, JSON: JSONValue, BigInt: BigIntValue }
