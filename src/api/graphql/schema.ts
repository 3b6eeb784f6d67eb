import { readFileSync } from 'node:fs'
import {
  buildSchema,
  type GraphQLFieldResolver,
  GraphQLObjectType,
  GraphQLScalarType,
  type GraphQLSchema,
} from 'graphql'
import type { GraphQLParts } from './context.ts'
import { scalars } from './scalars.ts'

/** How a value is found. */
export type Resolve = GraphQLFieldResolver<never, GraphQLParts, never>
/** How a field is found; a subscription says how its values come. */
export type FieldResolver = Resolve | { subscribe: Resolve; resolve: Resolve }
export type Resolvers = Record<string, Record<string, FieldResolver>>

/** The committed SDL. */
export const schemaText = readFileSync(new URL('./schema.graphql', import.meta.url), 'utf8')

/** The SDL with its resolvers in place; a resolver for a field that the SDL lacks is an error at start. */
export function bindSchema(resolvers: Resolvers): GraphQLSchema {
  const schema = buildSchema(schemaText)
  for (const [name, scalar] of Object.entries(scalars)) {
    const type = schema.getType(name)
    if (!(type instanceof GraphQLScalarType)) throw new Error(`schema.graphql has no scalar ${name}`)
    const { serialize, parseValue, parseLiteral } = scalar
    Object.assign(type, { serialize, parseValue, parseLiteral })
  }
  for (const [typeName, fields] of Object.entries(resolvers)) {
    const type = schema.getType(typeName)
    const known = type instanceof GraphQLObjectType ? type.getFields() : {}
    for (const [fieldName, resolver] of Object.entries(fields)) {
      const field = known[fieldName]
      if (!field) throw new Error(`schema.graphql has no field ${typeName}.${fieldName}`)
      Object.assign(field, typeof resolver === 'function' ? { resolve: resolver } : resolver)
    }
  }
  return schema
}
