import type { S3Config } from '../config.ts'
import { GestaltError, Misconfigured, NoRoom, NotFound, Unavailable } from '../errors.ts'

/** What was asked of the store when it failed, as the messages say it. */
export type Doing = 'read' | 'write' | 'remove' | 'list'

/** An answer that may be another one soon: the package that sends the requests would throw away what it says. */
export class Refusal extends Error {
  readonly status: number
  /** What S3 calls it; empty where the answer does not say. */
  readonly code: string
  constructor(status: number, code: string, message: string) {
    super(message)
    this.status = status
    this.code = code
  }
}

/** The server has said nothing for so long that the connection was given up. */
export class Silence extends Error {
  readonly code = 'ETIMEDOUT'
  constructor(seconds: number) {
    super(`it has said nothing for ${seconds} s`)
  }
}

export const absent = new Set(['NotFound', 'NoSuchKey'])
const noSpace = new Set(['XMinioStorageFull', 'InsufficientStorage', 'QuotaExceeded', 'ENOSPC', 'EDQUOT', 'EFBIG'])
const elsewhere = new Set(['PermanentRedirect', 'MovedPermanently', 'TemporaryRedirect', 'IllegalLocationConstraint'])
const distrust = /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)/
/** The connection, or the server's state of the moment; and bytes that were changed on the way. */
const passing = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'ENETUNREACH'],
  ...[
    'EHOSTUNREACH',
    'ERR_STREAM_PREMATURE_CLOSE',
    'InternalError',
    'ServiceUnavailable',
    'SlowDown',
    'RequestTimeout',
  ],
  ...['OperationAborted', 'XMinioServerNotInitialized', 'BadDigest', 'XAmzContentSHA256Mismatch', 'IncompleteBody'],
])

function codeOf(error: unknown): string {
  return (error as { code?: string }).code ?? ''
}

/** Whether the same request may well be answered soon. */
export function isPassing(error: unknown): boolean {
  const code = codeOf(error)
  return !noSpace.has(code) && (error instanceof Refusal || passing.has(code))
}

/** Settings that name no S3 store, or one that is not reached that way. */
function misdirected(error: unknown, { bucket, endPoint, port, useSSL }: S3Config): GestaltError | undefined {
  const { name = '', message } = error as Error
  const [code, place, options] = [codeOf(error), `${endPoint}:${port}`, { cause: error }]
  if (code === 'NoSuchBucket')
    return new Misconfigured(`there is no bucket ${bucket}`, 'create it, or correct S3_BUCKET', options)
  if (name === 'InvalidBucketNameError' || code === 'InvalidBucketName')
    return new Misconfigured(`'${bucket}' is no name of a bucket`, 'correct S3_BUCKET', options)
  if (elsewhere.has(code))
    return new Misconfigured(
      `the bucket ${bucket} is served elsewhere: ${message}`,
      'correct S3_REGION and S3_ENDPOINT',
      options,
    )
  if (distrust.test(code))
    return new Misconfigured(
      `the certificate of ${place} is not trusted: ${message}`,
      'name the file of the authority that signed it with NODE_EXTRA_CA_CERTS, or correct S3_ENDPOINT',
      options,
    )
  if (code === 'EPROTO' || code.startsWith('ERR_SSL') || code.startsWith('HPE_'))
    return new Misconfigured(
      `what answers at ${place} does not speak ${useSSL ? 'HTTPS' : 'HTTP'}`,
      `correct S3_ENDPOINT${useSSL ? '; a store without TLS starts with http://' : ''}`,
      options,
    )
  return undefined
}

/** Keys, rights and clocks that the store does not accept. */
function refused(error: unknown, doing: Doing, { bucket, accessKey }: S3Config): GestaltError | undefined {
  const [code, { message }, options] = [codeOf(error), error as Error, { cause: error }]
  if (code === 'InvalidAccessKeyId' || code === 'XAdminUserNotFound')
    return new Misconfigured(
      `the object store does not know the access key ${accessKey}`,
      'correct S3_ACCESS_KEY and S3_SECRET_KEY',
      options,
    )
  if (code === 'SignatureDoesNotMatch' || code === 'AuthorizationHeaderMalformed')
    return new Misconfigured(
      `the object store refuses our signature: ${message}`,
      'correct S3_SECRET_KEY and S3_REGION',
      options,
    )
  if (code === 'RequestTimeTooSkewed' || code === 'RequestExpired')
    return new Misconfigured(
      `the clock of this machine says ${new Date().toISOString()}, and that of the object store something else: ${message}`,
      'set both clocks, for example with an NTP service',
      options,
    )
  const rights = { read: 'read from', write: 'write to', remove: 'remove from', list: 'list' }[doing]
  if (code === 'AccessDenied')
    return new Misconfigured(
      `the object store does not let us ${rights} the bucket ${bucket}: ${message}`,
      'give the key of S3_ACCESS_KEY and S3_SECRET_KEY the right to list, read, write and remove there, or correct them',
      options,
    )
  return undefined
}

/** Says of an error of the store what its reader must do. */
export type Translate = (error: unknown, doing: Doing, key?: string) => unknown

export function translator(config: S3Config): Translate {
  const place = `${config.endPoint}:${config.port}`
  return (error, doing, key = '') => {
    if (error instanceof GestaltError) return error
    const [code, { message }, options] = [codeOf(error), error as Error, { cause: error }]
    if (absent.has(code)) return new NotFound(`there is no object ${key}`, 'it may have been removed', options)
    if (noSpace.has(code))
      return new NoRoom(`the object store has no room: ${message}`, 'make room there, then try again', options)
    return (
      misdirected(error, config) ??
      refused(error, doing, config) ??
      new Unavailable(
        `the object store at ${place} does not answer as it should: ${message || code}`,
        'see that it runs and that S3_ENDPOINT names it, then try again',
        options,
      )
    )
  }
}

/** Where a first question is not even understood, another kind of server listens. */
export function notS3({ endPoint, port }: S3Config, cause: unknown): Misconfigured {
  return new Misconfigured(
    `what answers at ${endPoint}:${port} does not speak S3: ${(cause as Error).message || 'it knows no buckets'}`,
    'correct S3_ENDPOINT',
    { cause },
  )
}

/** Whether an error shows that there is no S3 server: one names each of its refusals. */
export function isForeign(error: unknown): boolean {
  return ['', 'NotFound', 'MethodNotAllowed'].includes(codeOf(error)) && !(error instanceof Refusal)
}
