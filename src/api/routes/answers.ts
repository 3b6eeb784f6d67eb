import { Type } from 'typebox'

const problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: 'What happened, and to which one.' }),
    instance: Type.String(),
    code: Type.String({ description: 'Stays the same from version to version.' }),
    cure: Type.String({ description: 'What would have been right, or what to do.' }),
    errors: Type.Array(Type.Object({ pointer: Type.String({ description: 'RFC 6901' }), detail: Type.String() })),
  },
  { description: 'RFC 9457' },
)

const content = { 'application/problem+json': { schema: problem } }
const meanings: Record<number, string> = {
  400: 'The request is not right; `errors` has every fault.',
  404: 'There is no such thing.',
  408: 'Nothing more of the body came.',
  409: 'The state does not allow it.',
  413: 'The body is too large.',
  415: 'The body is of no type that is taken here.',
  416: 'The range is outside the file.',
  422: 'The idempotency key was used for something else.',
  507: 'There is no room left.',
  503: 'Something needed does not answer.',
}

/** The problems a route may answer, for its documentation. */
export function answers(...statuses: readonly number[]) {
  return Object.fromEntries(
    statuses.map((status) => [status, { description: meanings[status] ?? 'A problem.', content }]),
  )
}
