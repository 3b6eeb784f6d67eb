import type pg from 'pg'
import { Damaged, NotFound } from '../errors.ts'
import type { From, Origins } from '../experiments/from.ts'
import type { StoredTensor } from '../models/checkpoint.ts'
import { type Arrangement, arrange } from '../models/weights/layout.ts'
import type { Mapped } from '../models/weights/name-map.ts'
import { learnedTensors } from './learned-tensors.ts'
import type { ObjectStore } from './objects.ts'
import { streamTensors, toFloats } from './tensor-stream.ts'

interface Source {
  pool: pg.Pool
  objects: ObjectStore
}

/** A stored file that weights are read from, and how its tensors are taken where they are not ours. */
interface Found {
  title: string
  checkpoint?: string
  key: string
  size: number
  /** Of the file, and of the file with its map; one where there is no map. */
  fileSha256: string
  sha256: string
  made?: { method: string; net: unknown }
  map?: Mapped[]
}

const columns = `checkpoints.id, checkpoints.step, checkpoints.key, checkpoints.size::float8 AS size,
  checkpoints.sha256, runs.id AS "runId", runs.name, runs.definition`

interface CheckpointFound {
  id: string
  step: number
  key: string
  size: number
  sha256: string
  runId: string
  name: string
  definition: { method: { name: string }; net: unknown }
}

async function findCheckpoint({ pool }: Source, { checkpoint, run }: From): Promise<Found> {
  const [where, id] = checkpoint ? ['checkpoints.id = $1', checkpoint] : ['checkpoints.run_id = $1', run]
  const { rows } = await pool.query<CheckpointFound>(
    `SELECT ${columns} FROM checkpoints JOIN runs ON runs.id = checkpoints.run_id WHERE ${where}
     ORDER BY checkpoints.final DESC, checkpoints.attempt DESC, checkpoints.step DESC LIMIT 1`,
    [id],
  )
  const [row] = rows
  if (!row && checkpoint)
    throw new NotFound(
      `there is no checkpoint ${checkpoint}: of a run the newest two and the final one are kept`,
      'GET /v1/runs/:id lists those of a run',
    )
  if (!row) throw new NotFound(`there is no run ${run} with a checkpoint`, 'GET /v1/runs lists the runs')
  const { step, key, size, sha256, definition } = row
  const title = `checkpoint ${row.id} (run '${row.name}', step ${step})`
  const made = { method: definition.method.name, net: definition.net }
  return { title, checkpoint: row.id, key, size, fileSha256: sha256, sha256, made }
}

async function findWeights({ pool }: Source, name: string): Promise<Found> {
  const { rows } = await pool.query<Pick<Found, 'key' | 'size' | 'fileSha256' | 'sha256'> & { map: Mapped[] }>(
    'SELECT key, size::float8 AS size, file_sha256 AS "fileSha256", sha256, map FROM weights WHERE name = $1',
    [name],
  )
  if (!rows[0])
    throw new NotFound(
      `there are no weights '${name}'`,
      "'gestalt weights list' names those there are, 'add' brings some",
    )
  return { title: `weights '${name}'`, ...rows[0] }
}

const find = (source: Source, from: From) =>
  from.weights === undefined ? findCheckpoint(source, from) : findWeights(source, from.weights)

/** How a tensor in the file is taken, by its name there. */
interface Taken extends Arrangement {
  to: string
  shape: readonly number[]
}

async function takenFrom({ objects }: Source, found: Found): Promise<Map<string, Taken>> {
  // The map was checked against the header when the weights came in.
  if (found.map) return new Map(found.map.map((entry) => [entry.from, entry]))
  const learned = await learnedTensors(objects, found, found.title)
  return new Map([...learned].map(([name, { ours, shape }]) => [name, { to: ours, shape, layout: 'as-is' }]))
}

/** Checkpoints of any run, and imported weights, as sources of a run's first weights. */
export function openOrigins(source: Source): Origins {
  return {
    async find(from) {
      const found = await find(source, from)
      const { title, checkpoint, sha256, made } = found
      const taken = [...(await takenFrom(source, found)).values()]
      const tensors = Object.fromEntries(taken.map(({ to, shape }) => [to, shape]))
      return { title, ...(checkpoint ? { checkpoint } : {}), sha256, ...(made ? { made } : {}), tensors }
    },
    async *read(from, wants): AsyncGenerator<[string, StoredTensor]> {
      const found = await find(source, from)
      const { title, sha256 } = found
      if (from.sha256 !== undefined && from.sha256 !== sha256)
        throw new Damaged(
          `${title} is no longer what the run was to start from: its sha256 is ${sha256}, and was ${from.sha256}`,
          'submit the definition anew, without from.sha256',
        )
      const taken = await takenFrom(source, found)
      const stream = streamTensors(source.objects, found, (name) => {
        const entry = taken.get(name)
        return entry !== undefined && wants(entry.to)
      })
      for await (const { tensor, bytes } of stream) {
        const entry = taken.get(tensor.name)!
        const data = arrange(entry, tensor.shape, toFloats(tensor, bytes))
        yield [entry.to, { dtype: 'F32', shape: entry.shape, data }]
      }
    },
  }
}
