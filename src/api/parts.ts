import type { FastifyBaseLogger } from 'fastify'
import type { Config } from '../config.ts'
import type { ByteSource } from '../data/dataset.ts'
import type { Queue } from '../jobs/queue.ts'
import type { Database } from '../store/database.ts'
import type { ImageSets } from '../store/image-sets.ts'
import type { Ledger } from '../store/ledger.ts'
import type { ObjectStore } from '../store/objects.ts'

/** What the API is built from; its front door opens them and closes them again. */
export interface Parts {
  config: Config
  database: Database
  ledger: Ledger
  objects: ObjectStore
  queue: Queue
  bytes: ByteSource
  sets: ImageSets
  /** Of this software, as its package says it. */
  version: string
  /** What processes that are started inherit. */
  environment?: NodeJS.ProcessEnv
}

export type Log = FastifyBaseLogger

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Served without a token: probes, documentation, signed links. */
    open?: boolean
    /** Its body may be long on its way, as long as something of it arrives. */
    upload?: boolean
  }
}
