/** One place in a document that is not as it should be. `pointer` is an RFC 6901 JSON pointer ('' is the whole). */
export interface Fault {
  pointer: string
  detail: string
}

/** Bytes as messages tell them: '1.5 GiB'. */
export const gibibytes = (bytes: number, digits = 1) => `${(bytes / 2 ** 30).toFixed(digits)} GiB`

/**
 * The base of every error that a reader can act on: `code` is stable, `message` says what and which one, `cure` says
 * what would have been right or what to do. It is translated only at the edges (`api/failures.ts`, `jobs/child.ts`,
 * the command line).
 */
export abstract class GestaltError extends Error {
  abstract readonly code: string
  abstract readonly status: number
  readonly cure: string
  constructor(message: string, cure: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = new.target.name
    this.cure = cure
  }
}

/** What was asked cannot be done as written: correct it. Carries every fault, not only the first. */
export class InvalidDefinition extends GestaltError {
  readonly code = 'invalid-definition'
  readonly status = 400
  readonly faults: readonly Fault[]
  constructor(faults: readonly Fault[], what = 'the definition') {
    super(
      `${what} has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}: ${faults
        .map((fault) => `${fault.pointer || '/'}: ${fault.detail}`)
        .join('; ')}`,
      'correct the named places and send it again',
    )
    this.faults = faults
  }
}

/** There is no such thing: look at the list of those there are. */
export class NotFound extends GestaltError {
  readonly code = 'not-found'
  readonly status = 404
}

/** The thing is in a state that does not allow it: read its state, then decide. */
export class Conflict extends GestaltError {
  readonly code = 'conflict'
  readonly status = 409
}

/** Who asks is not known: send a valid token. */
export class Unauthorized extends GestaltError {
  readonly code = 'unauthorized'
  readonly status = 401
}

/** Too much at once: send less. */
export class TooLarge extends GestaltError {
  readonly code = 'too-large'
  readonly status = 413
}

/** The loss is no longer a number: change the parameters. */
export class Diverged extends GestaltError {
  readonly code = 'diverged'
  readonly status = 422
}

/** Something stored does not read back as it was written: restore it or choose another. */
export class Damaged extends GestaltError {
  readonly code = 'damaged'
  readonly status = 500
}

/** Something needed does not answer now: wait and try again. */
export class Unavailable extends GestaltError {
  readonly code = 'unavailable'
  readonly status = 503
}

/** A GPU failed in the middle of its work: the same may do well there later, or on another. */
export class GpuLost extends Unavailable {}

/** There is no room left on the disk, in the store or in memory: make room. */
export class NoRoom extends GestaltError {
  readonly code = 'no-room'
  readonly status = 507
}

/** The memory of a GPU is full: where others have a part of it, the same may find room once they are gone. */
export class GpuFull extends NoRoom {}

/** A setting of this process is wrong: correct the environment and start again. */
export class Misconfigured extends GestaltError {
  readonly code = 'misconfigured'
  readonly status = 500
}

/** Another attempt has taken the run over: this one must stop and write nothing more. */
export class Superseded extends GestaltError {
  readonly code = 'superseded'
  readonly status = 409
}
