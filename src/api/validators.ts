import { Ajv, type Options } from 'ajv'
import type { FastifyInstance } from 'fastify'

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
