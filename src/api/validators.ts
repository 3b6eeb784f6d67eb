import { Ajv, type Options } from 'ajv'
import type { FastifyInstance } from 'fastify'
import type { TSchema } from 'typebox'
import { asWritten, type Schema } from '../experiments/schema.ts'

const shared: Options = {
  allErrors: true,
  discriminator: true,
  strict: false,
  removeAdditional: false,
  useDefaults: true,
}

/** Formats are for the reader of the documentation; what matters is checked by patterns. */
const formats = { 'date-time': true, uuid: true, uri: true, binary: true } as const

/**
 * Two judges: bodies are taken as they are (nothing is dropped or turned into another type), while query strings and
 * path parameters are text by nature and are read as the types their schema names.
 */
export function setValidators(app: FastifyInstance): void {
  const strict = new Ajv({ ...shared, coerceTypes: false, formats })
  const lenient = new Ajv({ ...shared, coerceTypes: 'array', formats })
  app.setValidatorCompiler(({ schema, httpPart }) => (httpPart === 'body' ? strict : lenient).compile(schema))
  // Answers are ours: schemas describe them, and JSON.stringify writes every field.
  app.setSerializerCompiler(() => JSON.stringify)
}

/** A schema as a caller sees it: what has a default may be left out. */
export function written<T extends TSchema>(schema: T): T {
  return asWritten(schema as Schema) as T
}
