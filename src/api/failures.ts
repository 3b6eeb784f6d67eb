import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { type Fault, GestaltError, InvalidDefinition } from '../errors.ts'
import { translateDatabaseError } from '../store/pool.ts'

/** What a caller is told of an error, whichever door it came through. */
export interface Failure {
  status: number
  code: string
  title: string
  /** What happened, and to which one. */
  detail: string
  /** What would have been right, or what to do. */
  cure: string
  errors: readonly Fault[]
  /** False: a defect of ours, told to the log and hidden from the caller. */
  expected: boolean
}

/** What only HTTP can refuse: a route, a method, a range, an origin. */
export class Refused extends GestaltError {
  readonly status: number
  readonly code: string
  constructor(status: number, code: string, message: string, cure: string) {
    super(message, cure)
    this.status = status
    this.code = code
  }
}

/** RFC 9457, with our code and cure as extension members. */
export interface Problem {
  type: string
  title: string
  status: number
  detail: string
  instance: string
  code: string
  cure: string
  errors: readonly Fault[]
}

const titles: Record<number, string> = {
  400: 'The request is not right',
  401: 'A token is needed',
  403: 'Not allowed',
  404: 'There is no such thing',
  405: 'The method does not fit',
  406: 'No such representation',
  408: 'The request took too long',
  409: 'The state does not allow it',
  413: 'Too much at once',
  415: 'The media type is not known',
  416: 'The range is outside the file',
  422: 'The request cannot be done as it stands',
  500: 'A defect of this server',
  503: 'Something needed does not answer',
  507: 'There is no room left',
}

/** What Fastify refuses before a route sees it. */
const refusals: Record<string, { code: string; cure: string; detail?: string }> = {
  FST_ERR_CTP_BODY_TOO_LARGE: {
    code: 'too-large',
    cure: 'send a smaller body, or raise GESTALT_BODY_LIMIT',
    detail: 'the body is larger than this server takes',
  },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    code: 'unsupported-media-type',
    cure: 'send JSON with the header content-type: application/json',
  },
  FST_ERR_CTP_EMPTY_JSON_BODY: {
    code: 'malformed-json',
    cure: 'send a JSON document, or leave the content-type header out',
  },
  FST_ERR_CTP_INVALID_JSON_BODY: { code: 'malformed-json', cure: 'send one well-formed JSON document in UTF-8' },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: { code: 'malformed-request', cure: 'send as many bytes as content-length says' },
  FST_ERR_BAD_URL: { code: 'malformed-request', cure: 'encode the address as RFC 3986 wants it' },
}

function titled(status: number): string {
  return titles[status] ?? (status < 500 ? titles[400]! : titles[500]!)
}

function ofFastify(error: FastifyError): Failure | undefined {
  const status = error.statusCode ?? 500
  if (status >= 500) return undefined
  const base = { status, title: titled(status), expected: true }
  if (error.validation) {
    const where = error.validationContext ?? 'request'
    const errors = error.validation.map((fault) => ({
      pointer: fault.instancePath || missingPointer(fault.params),
      detail: `${fault.message ?? 'is not right'}${known(fault.params)}`,
    }))
    const detail = `the ${where === 'querystring' ? 'query string' : where} has ${errors.length === 1 ? 'a fault' : `${errors.length} faults`}`
    return {
      ...base,
      code: 'invalid-request',
      detail,
      cure: 'correct the named places; /docs lists what is known',
      errors,
    }
  }
  const refusal = refusals[error.code]
  if (refusal)
    return { ...base, code: refusal.code, detail: refusal.detail ?? error.message, cure: refusal.cure, errors: [] }
  // Fastify's JSON parser throws a plain SyntaxError that carries a status.
  const code = error instanceof SyntaxError ? 'malformed-json' : 'malformed-request'
  const cure = error instanceof SyntaxError ? refusals.FST_ERR_CTP_INVALID_JSON_BODY!.cure : '/docs shows how to ask'
  return { ...base, code, detail: error.message, cure, errors: [] }
}

function missingPointer(params: Record<string, unknown>): string {
  const name = params.missingProperty ?? params.additionalProperty
  return typeof name === 'string' ? `/${name}` : ''
}

function known(params: Record<string, unknown>): string {
  if (Array.isArray(params.allowedValues)) return `: ${params.allowedValues.join(', ')}`
  return typeof params.additionalProperty === 'string' ? `: '${params.additionalProperty}' is not known here` : ''
}

/** The one translation of errors for callers; whatever is not ours to tell is masked. */
export function toFailure(thrown: unknown): Failure {
  const error = translateDatabaseError(thrown)
  if (error instanceof GestaltError) {
    const errors = error instanceof InvalidDefinition ? error.faults : []
    const { status, code, message: detail, cure } = error
    return { status, code, title: titled(status), detail, cure, errors, expected: true }
  }
  const refused = error instanceof Error && 'statusCode' in error ? ofFastify(error as FastifyError) : undefined
  return (
    refused ?? {
      status: 500,
      code: 'internal',
      title: titled(500),
      detail: 'something went wrong here that is not the request’s fault',
      cure: 'try again; if it stays, look in the log of the server for the id of this request',
      errors: [],
      expected: false,
    }
  )
}

/** Sends an error as application/problem+json; what is masked goes to the log in full. */
export function sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { expected, status, code, title, detail, cure, errors } = toFailure(error)
  if (!expected) request.log.error({ err: error }, 'a request met a defect')
  else if (status >= 500) request.log.warn({ err: error }, detail)
  if (status === 503) reply.header('retry-after', '2')
  if (status === 401) reply.header('www-authenticate', 'Bearer realm="gestalt"')
  const instance = request.url.split('?')[0]!
  const problem: Problem = { type: `urn:gestalt:problem:${code}`, title, status, detail, instance, code, cure, errors }
  return reply.code(status).type('application/problem+json; charset=utf-8').send(JSON.stringify(problem))
}
