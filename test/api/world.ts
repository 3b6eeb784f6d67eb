import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import { createApp } from '../../src/api/app.ts'
import type { Parts } from '../../src/api/parts.ts'
import { type Config, readConfig } from '../../src/config.ts'
import { openQueue } from '../../src/jobs/queue.ts'
import { openDatabase } from '../../src/store/database.ts'
import { datasetBytes } from '../../src/store/dataset-bytes.ts'
import { openImageSets } from '../../src/store/image-sets.ts'
import { openLedger } from '../../src/store/ledger.ts'
import { openObjects } from '../../src/store/open-objects.ts'
import { testDatabase } from '../postgres.ts'

export interface World {
  app: FastifyInstance
  parts: Parts
  /** GraphQL over HTTP; throws nothing. */
  query(query: string, variables?: Record<string, unknown>): Promise<Answer>
  /** Sends JSON, or asks with GET where there is no body. */
  send(path: string, body?: unknown, options?: InjectOptions): Promise<LightMyRequestResponse>
  /** Starts to listen on any free port and returns the address. */
  listen(): Promise<string>
  close(): Promise<void>
}

export interface Answer {
  // biome-ignore lint/suspicious/noExplicitAny: what a query answers follows from its text
  data: any
  errors?: { message: string; path?: (string | number)[]; extensions: Record<string, unknown> }[]
}

/** What Node's environment would say, with nothing of this machine. */
export function testConfig(home: string, changes: Partial<Config> = {}): Config {
  const environment = { GESTALT_HOME: home, GESTALT_LOG_LEVEL: 'silent', GESTALT_PORT: '0' }
  return { ...readConfig(environment), ...changes }
}

/** An app over a database and a folder of its own; `databaseUrl` joins that of another world. */
export async function openWorld(changes: Partial<Config> = {}, other: { queueUrl?: string } = {}): Promise<World> {
  const home = mkdtempSync(join(tmpdir(), 'gestalt-api-'))
  const own = changes.databaseUrl ? undefined : await testDatabase()
  const config = testConfig(home, { databaseUrl: own?.url, ...changes })
  const url = config.databaseUrl!
  const database = await openDatabase({ url, max: 10, name: 'gestalt-api' })
  const queue = await openQueue({ databaseUrl: other.queueUrl ?? url, connections: 3 })
  const objects = openObjects(config)
  const bytes = datasetBytes(objects, config.datasetFolders)
  const sets = openImageSets(database, objects, { totalBytes: config.uploadLimit })
  const ledger = openLedger(database)
  const parts: Parts = { config, database, ledger, objects, queue, bytes, sets, version: '0.0.0' }
  const app = await createApp(parts)
  const host = { host: '127.0.0.1' }
  const send: World['send'] = (path, body, options) => {
    const headers = {
      ...host,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...options?.headers,
    }
    const method = body === undefined ? 'GET' : 'POST'
    const payload = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
    return app.inject({ method, url: path, payload, ...options, headers })
  }
  return {
    app,
    parts,
    send,
    query: async (query, variables) => (await send('/graphql', { query, variables })).json(),
    listen: () => app.listen({ host: '127.0.0.1', port: 0 }),
    async close() {
      await app.close()
      await queue.close()
      await database.close()
      await own?.drop()
      rmSync(home, { recursive: true, force: true })
    },
  }
}

/** A definition that needs no file. */
export function definition(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    version: 1,
    name: 'drawn',
    tags: ['test'],
    dataset: { name: 'shapes', images: 256, testImages: 64 },
    net: { name: 'small', widths: [4, 4, 4] },
    method: { name: 'npid', dimension: 16 },
    training: { epochs: 2, batchSize: 32, optimizer: { name: 'sgd', learningRate: 0.03 } },
    evaluations: [{ name: 'nearest-neighbours', k: [1, 5], temperature: 0.1 }],
    ...changes,
  }
}

/** An experiment accepted by the ledger without the API; its run waits. */
export async function acceptRun(parts: Parts, name = 'drawn', tags: string[] = []): Promise<string> {
  const submission = { name, tags, notes: '', priority: 0, definition: definition({ name }), plan: {} }
  const accepted = await parts.ledger.accept(submission)
  if (accepted.mismatch) throw new Error('a submission without a key cannot meet another')
  return accepted.runIds[0]!
}
