import { createHash } from 'node:crypto'
import type pg from 'pg'
import { Conflict, type Fault, InvalidDefinition, NotFound, TooLarge } from '../errors.ts'
import { applyMap, type Mapped, type NameMap } from '../models/weights/name-map.ts'
import { newId } from './id.ts'
import type { ObjectStore } from './objects.ts'
import { transaction } from './pool.ts'
import { type FileHeader, readHeader } from './tensor-stream.ts'

/** Weights that were trained elsewhere. */
export interface Weights {
  id: string
  name: string
  /** The preset or map that named its tensors. */
  source: string
  tensors: Mapped[]
  /** Of the file, in bytes. */
  size: number
  fileSha256: string
  /** Of the file and of how it is read: what definitions name. */
  sha256: string
  createdAt: Date
}

interface Store {
  pool: pg.Pool
  objects: ObjectStore
}

/** How the tensors of a file are named; by the file's own names where there is no map. */
export type ChooseMap = (header: FileHeader) => { map: NameMap | undefined; source: string }

const columns = `id, name, source, map AS tensors, size::float8 AS size, file_sha256 AS "fileSha256", sha256,
  created_at AS "createdAt"`

/** The same bytes, which end with TooLarge after so many. */
async function* limited(bytes: AsyncIterable<Uint8Array>, limit: number): AsyncGenerator<Uint8Array> {
  let size = 0
  for await (const chunk of bytes) {
    size += chunk.length
    if (size > limit)
      throw new TooLarge(`the file has more than ${limit} bytes`, 'send a smaller one, or raise GESTALT_UPLOAD_LIMIT')
    yield chunk
  }
}

const ours = /^(weights|memory)\/./

/** A file of our own names, such as an exported checkpoint: nothing is renamed or turned. */
function asItIs({ tensors }: FileHeader): { mapped: Mapped[]; faults: Fault[] } {
  const taken = tensors.filter(({ name }) => ours.test(name))
  const unknown = tensors.filter(({ name }) => !ours.test(name) && !name.startsWith('optimizer/'))
  const mapped = taken.map(({ name, shape }) => ({ from: name, to: name, shape, layout: 'as-is' as const }))
  const faults = unknown.map(({ name }) => ({
    pointer: `/tensors/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`,
    detail: 'is no name of ours (weights/... or memory/...): give a map or a preset',
  }))
  return { mapped, faults }
}

function judge(header: FileHeader | string, choose: ChooseMap): { mapped: Mapped[]; source: string } {
  if (typeof header === 'string')
    throw new InvalidDefinition([{ pointer: '', detail: `is no safetensors file: ${header}` }], 'the file')
  const { map, source } = choose(header)
  const file = Object.fromEntries(header.tensors.map((tensor) => [tensor.name, tensor]))
  const { mapped, faults } = map ? applyMap(map, file) : asItIs(header)
  if (mapped.length === 0 && faults.length === 0) faults.push({ pointer: '', detail: 'holds no tensors' })
  if (faults.length > 0) throw new InvalidDefinition(faults, 'the file')
  return { mapped, source }
}

/** Adds the row, or finds that there is one of that name. */
async function keep(pool: pg.Pool, row: Weights & { key: string }): Promise<{ weights: Weights; added: boolean }> {
  const { id, name, source, tensors, key, size, fileSha256, sha256 } = row
  const inserted = await pool.query<Weights>(
    `INSERT INTO weights (id, name, source, map, key, size, file_sha256, sha256) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
     ON CONFLICT (name) DO NOTHING RETURNING ${columns}`,
    [id, name, source, JSON.stringify(tensors), key, size, fileSha256, sha256],
  )
  if (inserted.rows[0]) return { weights: inserted.rows[0], added: true }
  const weights = await findWeights(pool, name)
  if (weights.sha256 === sha256) return { weights, added: false }
  throw new Conflict(
    `there are other weights called '${name}' (sha256 ${weights.sha256})`,
    "choose another name, or remove those first: 'gestalt weights remove'",
  )
}

async function hasRow(pool: pg.Pool, id: string): Promise<boolean> {
  return (await pool.query('SELECT 1 FROM weights WHERE id = $1', [id])).rowCount !== 0
}

/**
 * Keeps a safetensors file as it comes, and how its tensors are called here. The same file under the same name changes
 * nothing. Throws InvalidDefinition with every tensor that does not fit, TooLarge, or Conflict where the name is taken.
 */
export async function addWeights(
  { pool, objects }: Store,
  asked: { name: string; bytes: AsyncIterable<Uint8Array>; limit: number; choose: ChooseMap },
): Promise<{ weights: Weights; added: boolean }> {
  const id = newId()
  const key = `weights/${id}.safetensors`
  const stored = await objects.put(key, limited(asked.bytes, asked.limit), { type: 'application/octet-stream' })
  let known: Awaited<ReturnType<typeof keep>> | undefined
  try {
    const { mapped, source } = judge(await readHeader(objects, key, stored.size), asked.choose)
    const tensors = mapped.sort((a, b) => (a.to < b.to ? -1 : 1))
    const sha256 = createHash('sha256')
      .update(`${stored.sha256}\n${JSON.stringify(tensors)}`)
      .digest('hex')
    const row = { id, name: asked.name, source, tensors, key, size: stored.size, fileSha256: stored.sha256, sha256 }
    known = await keep(pool, { ...row, createdAt: new Date() })
    return known
  } finally {
    // Where the row was written and its answer lost, the file stays; also where nobody can tell.
    if (!known?.added && !(await hasRow(pool, id).catch(() => true))) await objects.remove(key)
  }
}

export async function findWeights(pool: pg.Pool, name: string): Promise<Weights> {
  const { rows } = await pool.query<Weights>(`SELECT ${columns} FROM weights WHERE name = $1`, [name])
  if (rows[0]) return rows[0]
  throw new NotFound(`there are no weights '${name.slice(0, 100)}'`, 'GET /v1/weights lists those there are')
}

export async function listWeights(pool: pg.Pool): Promise<Weights[]> {
  return (await pool.query<Weights>(`SELECT ${columns} FROM weights ORDER BY name`)).rows
}

/** Throws Conflict where runs start from them, NotFound where there are none. */
export async function removeWeights({ pool, objects }: Store, name: string): Promise<void> {
  const { id } = await findWeights(pool, name)
  const key = await transaction(pool, async (client) => {
    const { rows } = await client.query<{ key: string }>('SELECT key FROM weights WHERE id = $1 FOR UPDATE', [id])
    const starts = await client.query<{ runId: string }>(
      'SELECT run_id AS "runId" FROM starts WHERE weights_id = $1 ORDER BY run_id',
      [id],
    )
    const [first] = starts.rows
    if (first)
      throw new Conflict(
        `weights '${name}' are what run ${first.runId}${starts.rows.length > 1 ? ` and ${starts.rows.length - 1} more` : ''} started from`,
        'they stay as long as those runs do, which could not be repeated without them',
      )
    await client.query('DELETE FROM weights WHERE id = $1', [id])
    return rows[0]?.key
  })
  if (key) await objects.remove(key)
}
