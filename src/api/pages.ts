import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'

/** What every list takes. */
export const pageQuery = {
  first: Type.Integer({ minimum: 1, maximum: 100, default: 20, description: 'Rows in a page.' }),
  after: Type.Optional(Type.String({ maxLength: 1000, description: 'Where the page before ended: its `next`.' })),
}

export function pageOf<Item extends Parameters<typeof Type.Array>[0]>(item: Item) {
  return Type.Object({
    items: Type.Array(item),
    next: Type.Union([Type.String(), Type.Null()], { description: 'Give it as `after` for the next page.' }),
  })
}

/** `createdAt` or `-createdAt`, as the order of a list. */
export function orderQuery<const Name extends string>(names: readonly Name[]) {
  const words = names.flatMap((name) => [name, `-${name}` as const])
  return Type.Enum(words, { default: '-createdAt', description: 'With a minus, from the greatest down.' })
}

export function readOrder<Name extends string>(order: Name | `-${Name}`): { by: Name; direction: 'asc' | 'desc' } {
  return order.startsWith('-')
    ? { by: order.slice(1) as Name, direction: 'desc' }
    : { by: order as Name, direction: 'asc' }
}

/** Sends a page; its successor, if there is one, stands in `next` and as a Link (RFC 8288). */
export function sendPage(
  request: FastifyRequest,
  reply: FastifyReply,
  page: { items: readonly unknown[]; endCursor: string | null | undefined; hasNextPage: boolean },
): FastifyReply {
  const next = page.hasNextPage ? (page.endCursor ?? null) : null
  if (next !== null) {
    const url = new URL(request.url, 'http://host')
    url.searchParams.set('after', next)
    reply.header('link', `<${url.pathname}${url.search}>; rel="next"`)
  }
  return reply.send({ items: page.items, next })
}
