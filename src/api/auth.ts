import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config.ts'
import { Unauthorized } from '../errors.ts'
import { Refused } from './failures.ts'

type Door = Pick<Config, 'token' | 'publicUrl'>

/** Digests have one length, so the comparison takes the same time whatever was sent. */
function same(sent: string, token: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(sent), digest(token))
}

/** Throws Unauthorized unless `authorization` carries the token as Bearer, or no token is asked for. */
export function checkToken(config: Door, authorization: unknown): void {
  if (config.token === undefined) return
  const cure = 'send the header authorization: Bearer <the value of GESTALT_TOKEN>'
  if (typeof authorization !== 'string' || authorization === '')
    throw new Unauthorized('this server asks for a token, and none was sent', cure)
  const [, sent] = /^Bearer +(\S+) *$/i.exec(authorization) ?? []
  if (sent === undefined || !same(sent, config.token))
    throw new Unauthorized('the token that was sent is not the one of this server', cure)
}

/** The token of a websocket: browsers cannot set headers on one, so it travels in `connection_init`. */
export function checkSocketToken(config: Door, parameters: Record<string, unknown> | undefined, header: unknown): void {
  const { authorization, Authorization, token } = parameters ?? {}
  const sent = authorization ?? Authorization ?? (typeof token === 'string' ? `Bearer ${token}` : header)
  checkToken(config, sent)
}

const loopbackNames = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i

/**
 * Refuses a name of this server that only a page of somebody else would use (DNS rebinding). Without a token the
 * server is bound to this machine; with one, a stranger's page has no token to send, and proxies bring other names.
 */
export function checkHost(config: Door, headers: IncomingHttpHeaders): void {
  if (config.token !== undefined) return
  const host = headers[':authority'] ?? headers.host ?? ''
  if (typeof host === 'string' && (loopbackNames.test(host) || host === new URL(config.publicUrl).host)) return
  throw new Refused(
    403,
    'wrong-host',
    `this server is not called '${host}'`,
    'use http://127.0.0.1 or http://localhost; for another name set GESTALT_PUBLIC_URL',
  )
}

/** Refuses what a page of another site makes a browser send: browsers name the page's origin, programs send none. */
export function checkOrigin(config: Door, headers: IncomingHttpHeaders): void {
  const { origin, host } = headers
  if (origin === undefined || origin === new URL(config.publicUrl).origin) return
  if (URL.canParse(origin) && new URL(origin).host === host) return
  throw new Refused(
    403,
    'wrong-origin',
    `a page of '${origin}' may not use this server`,
    'open the page from this server, or send the request from a program',
  )
}

const reading = new Set(['GET', 'HEAD', 'OPTIONS'])

/** Judges every request before anything of it is read. */
export function guard(app: FastifyInstance, config: Door): void {
  app.addHook('onRequest', async (request) => {
    checkHost(config, request.headers)
    if (!reading.has(request.method)) checkOrigin(config, request.headers)
    if (!request.routeOptions.config.open) checkToken(config, request.headers.authorization)
  })
}

/** Everything registered in this scope is served without a token. */
export function open(scope: FastifyInstance): void {
  scope.addHook('onRoute', (route) => {
    route.config = { ...route.config, open: true }
  })
}
