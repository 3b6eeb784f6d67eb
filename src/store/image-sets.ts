import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import type { IntakeReport } from '../data/set-intake.ts'
import { manifestPath, type SetManifest, setsFolder } from '../data/set-manifest.ts'
import { Conflict, NotFound } from '../errors.ts'
import type { Logger } from '../experiments/context.ts'
import type { Database } from './database.ts'
import { record } from './events.ts'
import { newId } from './id.ts'
import type { ObjectStore } from './objects.ts'
import { type Page, type PageQuery, readPage } from './pages.ts'
import { transaction } from './pool.ts'
import { type AddingLimits, type AddingOptions, addingLimits, type Sources, storeSet } from './set-adding.ts'
import { claimKey, keepKey } from './set-keys.ts'
import { type Verdict, verifySet } from './set-verifying.ts'

export interface ImageSet {
  id: string
  name: string
  manifest: SetManifest
  createdAt: Date
}

export interface AddRequest extends AddingOptions {
  name: string
  sources: Sources
  idempotency?: { key: string; fingerprint: string } | undefined
}

export type Added =
  | { set: ImageSet; report: IntakeReport; replayed: false; mismatch?: undefined }
  | { set: ImageSet; report?: undefined; replayed: true; mismatch?: undefined }
  | { mismatch: true }

export type SetQuery = PageQuery<'createdAt' | 'name', undefined>

/** Sets of images that somebody has added: rows here, shards and index in the object store. */
export interface ImageSets {
  /** Throws Conflict where the name is in use; InvalidDefinition, Damaged, TooLarge for what came. Then nothing is left. */
  add(request: AddRequest): Promise<Added>
  list(query: SetQuery): Promise<Page<ImageSet>>
  count(): Promise<number>
  /** Throws NotFound. */
  find(name: string): Promise<ImageSet>
  /** Throws NotFound, or Conflict while runs that wait or run use it. */
  remove(name: string): Promise<void>
  /** Reads everything again and compares it with what was recorded. */
  verify(name: string): AsyncIterable<Verdict>
  /** Removes what was left half-way by processes that are gone. */
  sweep(log: Logger): Promise<void>
}

/** How often a set at work says that it is, and after which silence it counts as left. */
const touchMilliseconds = 10_000
const silenceSeconds = 60

const inUse: Record<string, [what: string, cure: string]> = {
  ready: ['there is an image set of the name', 'choose another name, or remove that one: gestalt dataset remove NAME'],
  adding: ['an image set is being added under the name', 'wait for it, or choose another name'],
  removing: ['an image set is being removed that has the name', 'wait a moment, or choose another name'],
}

interface Row {
  id: string
  name: string
  state: string
  silent: boolean
}

class StoredSets implements ImageSets {
  private readonly database: Database
  private readonly objects: ObjectStore
  private readonly limits: AddingLimits

  constructor(database: Database, objects: ObjectStore, limits: AddingLimits) {
    this.database = database
    this.objects = objects
    this.limits = limits
  }

  async add(request: AddRequest): Promise<Added> {
    const { name, sources, idempotency } = request
    const { pool } = this.database
    const earlier = idempotency && (await claimKey(pool, idempotency))
    if (earlier === 'mismatch') return { mismatch: true }
    if (earlier) {
      const set = await this.byId(earlier)
      if (set) return { set, replayed: true }
    }
    const id = await this.claim(name)
    const beat = setInterval(() => {
      pool.query("UPDATE image_sets SET touched_at = now() WHERE id = $1 AND state = 'adding'", [id]).catch(() => {})
    }, touchMilliseconds)
    try {
      const more = { limits: this.limits, onImages: () => {} }
      const { manifest, report } = await storeSet(this.objects, { id, name }, sources, request, more)
      await this.finish(id, manifest, idempotency)
      return { set: (await this.byId(id))!, report, replayed: false }
    } catch (error) {
      await this.giveUp({ id, name }).catch(() => {}) // the sweep will do it
      throw error
    } finally {
      clearInterval(beat)
    }
  }

  /** The name is ours from here on. What a process left half-way that is gone is removed first. */
  private async claim(name: string): Promise<string> {
    const id = newId()
    for (let attempt = 1; ; attempt++) {
      const { rowCount } = await this.database.pool.query(
        'INSERT INTO image_sets (id, name) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING',
        [id, name],
      )
      if (rowCount) return id
      const [other] = await this.rows('name = $2', [name])
      if (other?.silent && attempt < 3) await this.clear(other)
      else if (other) {
        const [what, cure] = inUse[other.state]!
        throw new Conflict(`${what} '${name}'`, cure.replace('NAME', name))
      } else if (attempt > 3) throw new Conflict(`the name '${name}' is taken and given up again`, 'try again')
    }
  }

  private async rows(condition: string, values: unknown[]): Promise<Row[]> {
    const { rows } = await this.database.pool.query<Row>(
      `SELECT id, name, state, state <> 'ready' AND touched_at < now() - make_interval(secs => $1) AS silent
       FROM image_sets WHERE ${condition}`,
      [silenceSeconds, ...values],
    )
    return rows
  }

  private finish(id: string, manifest: SetManifest, idempotency: AddRequest['idempotency']): Promise<void> {
    return transaction(this.database.pool, async (client) => {
      const { rowCount } = await client.query(
        "UPDATE image_sets SET state = 'ready', manifest = $2, created_at = now() WHERE id = $1 AND state = 'adding'",
        [id, JSON.stringify(manifest)],
      )
      if (!rowCount) throw new Conflict(`the set '${manifest.name}' was given up while it was added`, 'add it again')
      // While the row is held, so that nobody else can have taken the name meanwhile.
      const bytes = Buffer.from(JSON.stringify(manifest))
      await this.objects.put(`datasets/${manifestPath(manifest.name)}`, bytes, { type: 'application/json' })
      if (idempotency) await keepKey(client, idempotency, id)
      await record(client, { kind: 'image-set-added', data: { name: manifest.name, id, images: manifest.images } })
    })
  }

  /** Only what is still being added: where the commit was made and its answer lost, the set stays. */
  private async giveUp({ id, name }: { id: string; name: string }): Promise<void> {
    const { rowCount } = await this.database.pool.query(
      "UPDATE image_sets SET state = 'removing', touched_at = now() WHERE id = $1 AND state = 'adding'",
      [id],
    )
    if (rowCount) return this.clear({ id, name })
    if (await this.byId(id)) return
    // Somebody else has swept it, and may have the name by now.
    await this.removeObjects(`${setsFolder}/${name}/${id}/`)
  }

  /**
   * The row goes last, so that what a crash leaves is still known. The manifest goes while the row is held, and of the
   * rest only what is below the set's own id: whoever is slow takes nothing from a later set of the name.
   */
  private async clear({ id, name }: { id: string; name: string }): Promise<void> {
    const ours = await transaction(this.database.pool, async (client) => {
      const { rowCount } = await client.query(
        "UPDATE image_sets SET state = 'removing', touched_at = now() WHERE id = $1 AND state <> 'ready'",
        [id],
      )
      if (rowCount) await this.objects.remove(`datasets/${manifestPath(name)}`)
      return Boolean(rowCount)
    })
    if (!ours) return
    await this.removeObjects(`${setsFolder}/${name}/${id}/`)
    await this.database.pool.query("DELETE FROM image_sets WHERE id = $1 AND state = 'removing'", [id])
  }

  private async removeObjects(prefix: string): Promise<void> {
    const keys: string[] = []
    for await (const { key } of this.objects.list(`datasets/${prefix}`)) keys.push(key)
    for (const key of keys) await this.objects.remove(key)
  }

  private async byId(id: string): Promise<ImageSet | undefined> {
    const row = await this.database.prisma.imageSet.findFirst({ where: { id, state: 'ready' } })
    return row ? toSet(row) : undefined
  }

  list(query: SetQuery): Promise<Page<ImageSet>> {
    return readPage<ImageSet>(query, { state: 'ready' }, async (args) =>
      (await this.database.prisma.imageSet.findMany(args)).map(toSet),
    )
  }

  count(): Promise<number> {
    return this.database.prisma.imageSet.count({ where: { state: 'ready' } })
  }

  async find(name: string): Promise<ImageSet> {
    const row = await this.database.prisma.imageSet.findFirst({ where: { name, state: 'ready' } })
    if (row) return toSet(row)
    throw new NotFound(`there is no image set '${name.slice(0, 100)}'`, 'gestalt dataset list shows those there are')
  }

  async remove(name: string): Promise<void> {
    const { id } = await this.find(name)
    await transaction(this.database.pool, async (client) => {
      const { rowCount } = await client.query("SELECT 1 FROM image_sets WHERE id = $1 AND state = 'ready' FOR UPDATE", [
        id,
      ])
      if (!rowCount) throw new NotFound(`there is no image set '${name}' any more`, 'it is being removed already')
      await refuseUsed(client, name)
      await client.query("UPDATE image_sets SET state = 'removing', touched_at = now() WHERE id = $1", [id])
      await record(client, { kind: 'image-set-removed', data: { name, id } })
    })
    await this.clear({ id, name })
  }

  async *verify(name: string): AsyncIterable<Verdict> {
    yield* verifySet(this.objects, (await this.find(name)).manifest)
  }

  async sweep(log: Logger): Promise<void> {
    for (const row of await this.rows("state <> 'ready'", [])) {
      if (!row.silent) continue
      await this.clear(row)
      log.info(`what was left of the image set '${row.name}' is removed`)
      await sleep(0)
    }
  }
}

function toSet(row: { id: string; name: string; manifest: unknown; createdAt: Date }): ImageSet {
  return { id: row.id, name: row.name, manifest: row.manifest as SetManifest, createdAt: row.createdAt }
}

/** Runs that still want to read it. A run that is accepted holds the set's row until it is committed (submission.ts). */
async function refuseUsed(client: pg.ClientBase, name: string): Promise<void> {
  const { rows } = await client.query<{ id: string }>(
    `SELECT id FROM runs WHERE state IN ('queued', 'running', 'paused') AND dataset = 'images'
       AND definition #>> '{dataset,set}' = $1 ORDER BY id LIMIT 4`,
    [name],
  )
  if (rows.length === 0) return
  const named = rows.slice(0, 3).map(({ id }) => id)
  throw new Conflict(
    `runs use the image set '${name}': ${named.join(', ')}${rows.length > 3 ? ' and more' : ''}`,
    'wait for them, or cancel them',
  )
}

/** Throws NotFound where a definition names a set that is not there (any more); else it stays until the commit. */
export async function holdSet(client: pg.ClientBase, definition: unknown): Promise<void> {
  const { name, set } = (definition as { dataset?: { name?: unknown; set?: unknown } } | null)?.dataset ?? {}
  if (name !== 'images' || typeof set !== 'string') return
  const { rowCount } = await client.query("SELECT 1 FROM image_sets WHERE name = $1 AND state = 'ready' FOR SHARE", [
    set,
  ])
  if (!rowCount) throw new NotFound(`there is no image set '${set}'`, 'gestalt dataset list shows those there are')
}

export function openImageSets(database: Database, objects: ObjectStore, limits: Partial<AddingLimits> = {}): ImageSets {
  return new StoredSets(database, objects, { ...addingLimits, ...limits })
}
