import type { EmbeddingMeta } from '../experiments/context.ts'
import { persistently } from './fence.ts'
import { newId } from './id.ts'
import { npyHeader, toFloat16 } from './npy.ts'
import { encodeHeader, type TensorHeader } from './safetensors.ts'
import { putArtifact, type RunFiles } from './stored-files.ts'

function bytesOf(numbers: Float32Array | Uint16Array | Int32Array): Uint8Array {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength)
}

/** The rows as bytes of the wanted precision; throws RangeError where there are more or fewer than was said. */
async function* asBytes({ rows, dimension, dtype }: EmbeddingMeta, blocks: AsyncIterable<Float32Array>) {
  let seen = 0
  for await (const block of blocks) {
    seen += block.length
    yield bytesOf(dtype === 'f16' ? toFloat16(block) : block)
  }
  if (seen !== rows * dimension) throw new RangeError(`${seen} numbers were given for ${rows} rows of ${dimension}`)
}

/** The head of the safetensors file and its small tensors; the embeddings come last, so that they can be streamed. */
function* beforeRows(name: string, meta: EmbeddingMeta): Generator<Uint8Array> {
  const { rows, dimension, dtype, split, tap, dataset, ids, labels } = meta
  const tensors: [string, TensorHeader][] = [
    ['ids', { dtype: 'I32', shape: [rows] }],
    ...(labels ? [['labels', { dtype: 'I32', shape: [rows] }] as [string, TensorHeader]] : []),
    ['embeddings', { dtype: dtype === 'f16' ? 'F16' : 'F32', shape: [rows, dimension] }],
  ]
  yield encodeHeader(tensors, { name, split, tap, dataset })
  yield bytesOf(ids)
  if (labels) yield bytesOf(labels)
}

async function* chain(...parts: (Iterable<Uint8Array> | AsyncIterable<Uint8Array>)[]) {
  for (const part of parts) yield* part
}

/**
 * Keeps a set of embeddings as one safetensors file (tensors `embeddings` [rows, dimension], `ids` and `labels` [rows])
 * and as .npy files beside it. The rows pass once; the .npy file is made from the stored one.
 */
export async function putEmbeddings(
  files: RunFiles,
  name: string,
  meta: EmbeddingMeta,
  blocks: AsyncIterable<Float32Array>,
): Promise<void> {
  const { rows, dimension, dtype, split, tap, dataset, ids, labels } = meta
  if (ids.length !== rows || (labels && labels.length !== rows))
    throw new RangeError(`${ids.length} ids and ${labels?.length ?? 'no'} labels were given for ${rows} rows`)
  const put = (ending: string, bytes: AsyncIterable<Uint8Array>) =>
    putArtifact(files, `embeddings/${name}${ending}`, 'application/octet-stream', bytes)
  const before = [...beforeRows(name, meta)]
  const whole = await put('.safetensors', chain(before, asBytes(meta, blocks)))
  const { rows: stored } = await persistently(files.patience, () =>
    files.pool.query<{ key: string }>('SELECT key FROM artifacts WHERE id = $1', [whole]),
  )
  const start = before.reduce((length, part) => length + part.length, 0)
  const numbers = await files.objects.get(stored[0]!.key, { start })
  const kept: Record<string, string> = {
    safetensors: whole,
    npy: await put('.npy', chain([npyHeader(dtype, [rows, dimension])], numbers)),
    ids: await put('.ids.npy', chain([npyHeader('i32', [rows]), bytesOf(ids)])),
  }
  if (labels) kept.labels = await put('.labels.npy', chain([npyHeader('i32', [rows]), bytesOf(labels)]))
  const row = [newId(), files.fence.runId, name, rows, dimension, dtype, split, tap, dataset, JSON.stringify(kept)]
  await files.write((client) =>
    client.query(
      `INSERT INTO embedding_sets (id, run_id, name, rows, dimension, dtype, split, tap, dataset, files)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (run_id, name) DO UPDATE SET rows = excluded.rows, dimension = excluded.dimension,
           dtype = excluded.dtype, split = excluded.split, tap = excluded.tap, dataset = excluded.dataset,
           files = excluded.files, created_at = now()`,
      row,
    ),
  )
}
