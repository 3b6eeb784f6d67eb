import { Readable } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { newId } from '../../src/store/id.ts'
import { encodeSafetensors } from '../../src/store/safetensors.ts'
import { addWeights, findWeights, removeWeights } from '../../src/store/weights.ts'
import { definition, openWorld, type World } from './world.ts'

let world: World
/** A checkpoint of the net that `definition` names, and of a narrower one. */
let fitting: { runId: string; id: string; sha256: string }
let narrow: { runId: string; id: string }

const filled = (shape: number[], value = 1) => ({
  dtype: 'F32' as const,
  shape,
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value),
})

function netOf(widths: readonly number[]) {
  const tensors: Record<string, ReturnType<typeof filled>> = {}
  widths.forEach((width, i) => {
    tensors[`weights/conv${i + 1}/filter`] = filled([3, 3, i === 0 ? 1 : widths[i - 1]!, width])
    for (const part of ['weights/norm#/scale', 'weights/norm#/offset', 'memory/norm#/mean', 'memory/norm#/variance'])
      tensors[part.replace('#', String(i + 1))] = filled([width])
  })
  return tensors
}

const file = (tensors: Record<string, ReturnType<typeof filled>>, meta: Record<string, string> = {}) =>
  Buffer.concat([...encodeSafetensors(tensors, meta)])

async function storeCheckpoint(widths: readonly number[], step = 5) {
  const { ledger, objects, database } = world.parts
  const made = definition({ net: { name: 'small', widths } })
  const accepted = await ledger.accept({ name: 'c', tags: [], notes: '', priority: 0, definition: made, plan: {} })
  if (accepted.mismatch) throw new Error('mismatch')
  const [runId] = accepted.runIds as [string]
  const tensors = { ...netOf(widths), 'weights/head/weights': filled([9, 9]), 'optimizer/conv1/filter': filled([1]) }
  const { key, size, sha256 } = await objects.put(`runs/${runId}/checkpoints/c`, file(tensors, { step: String(step) }))
  const id = newId()
  await database.pool.query(
    'INSERT INTO checkpoints (id, run_id, attempt, step, final, key, size, sha256) VALUES ($1, $2, 1, $3, true, $4, $5, $6)',
    [id, runId, step, key, size, sha256],
  )
  return { runId, id, sha256 }
}

beforeAll(async () => {
  world = await openWorld()
  fitting = await storeCheckpoint([4, 4, 4])
  narrow = await storeCheckpoint([4, 2, 4])
})
afterAll(() => world.close())

const post = (from: unknown, query = '') => world.send(`/v1/experiments${query}`, definition({ from }))

describe('a definition that starts from a checkpoint', () => {
  it('is planned with what is taken, and pinned to the bytes of its source', async () => {
    const plan = (await post({ run: fitting.runId }, '?dryRun=true')).json()
    expect(plan.definition.from).toEqual({
      checkpoint: fitting.id,
      parts: 'weights',
      sha256: fitting.sha256,
      method: 'npid',
    })
    expect(plan.start.taken.sort()).toEqual(Object.keys(netOf([4, 4, 4])).sort())
    expect(plan.start).toMatchObject({ drawn: [], offered: ['weights/head/weights'], skipped: [] })
  })

  it('shows its origin in REST and GraphQL', async () => {
    const accepted = await post({ checkpoint: fitting.id })
    expect(accepted.statusCode).toBe(202)
    const [runId] = accepted.json().runIds
    expect((await world.send(`/v1/runs/${runId}`)).json().from).toMatchObject({
      checkpoint: fitting.id,
      sha256: fitting.sha256,
    })
    const fields = 'parts weights sha256 method checkpoint { id step } run { id }'
    const { data } = await world.query(`{ run(id: "${runId}") { from { ${fields} } } }`)
    expect(data.run.from).toEqual({
      ...{ parts: 'weights', weights: null, sha256: fitting.sha256, method: 'npid' },
      ...{ checkpoint: { id: fitting.id, step: 5 }, run: { id: fitting.runId } },
    })
  })

  it('keeps the checkpoint that it starts from', async () => {
    await post({ checkpoint: fitting.id })
    const removal = world.parts.database.pool.query('DELETE FROM checkpoints WHERE id = $1', [fitting.id])
    await expect(removal).rejects.toThrow(/foreign key/)
  })

  it('is refused with every tensor that differs where the checkpoint is of another architecture', async () => {
    const refused = await post({ checkpoint: narrow.id })
    expect(refused.statusCode).toBe(400)
    const details = refused.json().errors.map((fault: { detail: string }) => fault.detail)
    const of = `checkpoint ${narrow.id} (run 'c', step 5) has`
    expect(details).toContain(`${of} weights/conv2/filter as [3,3,4,2]; this net needs [3,3,4,4]`)
    expect(details).toContain(`${of} weights/conv3/filter as [3,3,2,4]; this net needs [3,3,4,4]`)
    expect(details).toHaveLength(6)
  })

  it('may name the layers that are taken where the others differ', async () => {
    const plan = (await post({ checkpoint: narrow.id, layers: ['conv1', 'norm1'] }, '?dryRun=true')).json()
    expect(plan.start.taken).toHaveLength(5)
    expect(plan.start.drawn).toContain('weights/conv2/filter')
    expect(plan.definition.from.method).toBeUndefined()
  })

  it.each([
    [{}, '/from', 'names no source: one of checkpoint, run, weights would be right'],
    [{ run: newId(), weights: 'x' }, '/from', 'names run and weights: one of checkpoint, run, weights would be right'],
    [{ weights: 'absent' }, '/from', "there are no weights 'absent'"],
    [{ checkpoint: '018f0000-0000-7000-8000-000000000000' }, '/from', 'there is no checkpoint 018f0000'],
    [{ run: '018f0000-0000-7000-8000-000000000000' }, '/from', 'there is no run 018f0000'],
  ])('is refused where it starts from %j', async (from, pointer, detail) => {
    const { errors } = (await post(from)).json()
    expect(errors).toHaveLength(1)
    expect(errors[0].pointer).toBe(pointer)
    expect(errors[0].detail).toContain(detail)
  })

  it('is refused where its source is not the pinned one, or knows other layers', async () => {
    const { errors } = (
      await post({ checkpoint: fitting.id, sha256: '0'.repeat(64), method: 'other', layers: ['conv9'] })
    ).json()
    expect(errors.map((fault: { pointer: string }) => fault.pointer).sort()).toEqual([
      '/from/layers',
      '/from/method',
      '/from/sha256',
    ])
  })
})

describe('POST /v1/weights', () => {
  const send = (query: string, payload: Buffer) =>
    world.send(`/v1/weights?${query}`, undefined, {
      method: 'POST',
      payload,
      headers: { 'content-type': 'application/octet-stream' },
    })
  const torch = { 'f.0.weight': filled([4, 3, 3, 3]), 'f.0.bias': filled([4]) }
  const map = { tensors: { 'f.0.weight': 'weights/conv1/filter', 'f.0.bias': 'weights/conv1/bias' } }

  it('keeps a file with its map, and answers the same file again with what there is', async () => {
    const body = file(torch, { 'gestalt.map': JSON.stringify(map) })
    const added = await send('name=lab.1', body)
    expect(added.statusCode).toBe(201)
    expect(added.json()).toMatchObject({ name: 'lab.1', source: 'map', size: body.length })
    expect(added.json().tensors).toEqual([
      { from: 'f.0.bias', to: 'weights/conv1/bias', shape: [4], layout: 'as-is' },
      { from: 'f.0.weight', to: 'weights/conv1/filter', shape: [3, 3, 3, 4], layout: 'filter' },
    ])
    const again = await send('name=lab.1', body)
    expect([again.statusCode, again.json().id]).toEqual([200, added.json().id])
    const other = await send('name=lab.1', file(netOf([4])))
    expect([other.statusCode, other.json().code]).toEqual([409, 'conflict'])
    const stored: string[] = []
    for await (const { key } of world.parts.objects.list('weights/')) stored.push(key)
    expect(stored).toEqual([`weights/${added.json().id}.safetensors`])
  })

  it('takes a file of our own names as it is, which runs then start from and keep', async () => {
    expect((await send('name=mine', file(netOf([4, 4, 4])))).statusCode).toBe(201)
    const accepted = await post({ weights: 'mine' })
    expect(accepted.statusCode).toBe(202)
    const remove = (name: string) => world.send(`/v1/weights/${name}`, undefined, { method: 'DELETE' })
    const refused = await remove('mine')
    expect(refused.statusCode).toBe(409)
    expect(refused.json().detail).toContain(accepted.json().runIds[0])
    await send('name=unused', file(netOf([1])))
    expect((await remove('unused')).statusCode).toBe(204)
    expect((await remove('unused')).statusCode).toBe(404)
    const { items } = (await world.send('/v1/weights')).json()
    expect(items.map((item: { name: string }) => item.name)).toEqual(['lab.1', 'mine'])
  })

  it('tells every tensor that the map does not fit, and keeps nothing', async () => {
    const wrong = { tensors: { 'f.0.weight': { to: 'weights/a', layout: 'matrix' }, gone: 'weights/b' } }
    const refused = await send('name=wrong', file(torch, { 'gestalt.map': JSON.stringify(wrong) }))
    expect(refused.statusCode).toBe(400)
    expect(refused.json().errors.map((fault: { pointer: string }) => fault.pointer)).toEqual([
      '/tensors/f.0.bias',
      '/tensors/f.0.weight',
      '/tensors/gone',
    ])
    expect((await world.send('/v1/weights/wrong')).statusCode).toBe(404)
  })

  it.each([
    ['no safetensors file', 'name=x', Buffer.from('this is a picture, or so'), 400],
    ['a file that ends early', 'name=x', file(torch).subarray(0, -8), 400],
    ['names that are not ours', 'name=x', file(torch), 400],
    ['a name that is none', 'name=..', file(torch), 400],
    ['an unknown preset', 'name=x&preset=none', file(torch), 400],
    ['a map that is none', 'name=x', file(torch, { 'gestalt.map': '{"tensors":{"a":"b"}}' }), 400],
  ])('refuses %s', async (_, query, body, status) => {
    expect((await send(query, body)).statusCode).toBe(status)
  })

  it('gives up a file of which nothing more comes', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const before = vi.getTimerCount()
      const answer = world.send('/v1/weights?name=stuck', undefined, {
        ...{ method: 'POST', payload: new Readable({ read() {} }) },
        headers: { 'content-type': 'application/octet-stream', 'content-length': '100' },
      })
      while (vi.getTimerCount() === before) await setImmediate()
      await vi.advanceTimersByTimeAsync(60_000)
      expect((await answer).statusCode).toBe(408)
    } finally {
      vi.useRealTimers()
    }
    const stored: string[] = []
    for await (const { key } of world.parts.objects.list('weights/')) stored.push(key)
    expect(stored).toHaveLength(2)
  })

  it('keeps the file where the row was written and only the answer was lost', async () => {
    const { database, objects } = world.parts
    const { pool } = database
    const lossy = {
      async query(text: string, values: unknown[]) {
        const answer = await pool.query(text, values)
        if (text.startsWith('INSERT')) throw new Error('the connection broke')
        return answer
      },
    }
    const bytes = (async function* () {
      yield file(netOf([1]))
    })()
    const choose = () => ({ map: undefined, source: 'own names' })
    const asked = { name: 'lossy', bytes, limit: 1e6, choose }
    await expect(addWeights({ pool: lossy as unknown as pg.Pool, objects }, asked)).rejects.toThrow('broke')
    const { id } = await findWeights(pool, 'lossy')
    expect(await objects.stat(`weights/${id}.safetensors`)).toBeDefined()
    await removeWeights({ pool, objects }, 'lossy')
  })

  it('refuses a file larger than it takes', async () => {
    const small = await openWorld({ uploadLimit: 64 })
    const response = await small.send('/v1/weights?name=x', undefined, {
      ...{ method: 'POST', payload: file(torch) },
      headers: { 'content-type': 'application/octet-stream' },
    })
    await small.close()
    expect([response.statusCode, response.json().code]).toEqual([413, 'too-large'])
  })
})
