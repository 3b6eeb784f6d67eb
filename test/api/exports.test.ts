import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { toUnit } from '../../src/data/pixels.ts'
import { shapes } from '../../src/data/shapes.ts'
import { chooseEngine } from '../../src/engine/choose.ts'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { createMemoryContext, type MemoryContext, memoryBytes } from '../../src/experiments/memory-context.ts'
import { perform } from '../../src/experiments/perform.ts'
import { planExperiment } from '../../src/experiments/plan.ts'
import { newId } from '../../src/store/id.ts'
import { decodeSafetensors, encodeSafetensors } from '../../src/store/safetensors.ts'
import { openWorld, type World } from './world.ts'

let world: World
let performed: MemoryContext
let runId: string
const checkpointId = newId()

const definition = parseDefinition({
  version: 1,
  name: 'exported',
  dataset: { name: 'shapes', images: 24, testImages: 8, classes: 4, height: 8, width: 8, clutter: 0 },
  net: { name: 'small', widths: [4, 6] },
  method: { name: 'npid', dimension: 8 },
  training: { epochs: 1, batchSize: 8 },
})

/** What a service would have kept of the run. */
async function keep(): Promise<void> {
  const { ledger, objects, database } = world.parts
  const plan = await planExperiment(definition, memoryBytes())
  const accepted = await ledger.accept({ name: 'e', tags: [], notes: '', priority: 0, definition, plan })
  if (accepted.mismatch) throw new Error('mismatch')
  runId = accepted.runIds[0]!
  const { checkpoint } = performed.recorded.checkpoints.at(-1)!
  const pieces = encodeSafetensors(checkpoint.tensors, { step: String(checkpoint.step) })
  const { key, size, sha256 } = await objects.put(`runs/${runId}/checkpoints/c`, Buffer.concat([...pieces]))
  await database.pool.query(
    'INSERT INTO checkpoints (id, run_id, attempt, step, final, key, size, sha256) VALUES ($1, $2, 1, 3, true, $3, $4, $5)',
    [checkpointId, runId, key, size, sha256],
  )
}

beforeAll(async () => {
  await chooseEngine('cpu', { threads: 1 })
  performed = createMemoryContext(memoryBytes())
  await perform(definition, performed)
  world = await openWorld()
  await keep()
})
afterAll(() => world.close())

const get = (path: string) => world.send(path)

describe('GET /v1/runs/:id/export', () => {
  it('makes the embeddings of the run in ONNX Runtime, from images in [0, 1]', async () => {
    const answer = await get(`/v1/runs/${runId}/export?as=onnx`)
    expect(answer.statusCode).toBe(200)
    expect(answer.headers['content-disposition']).toContain(`${runId}-step-3.onnx`)
    const file = answer.rawPayload
    for (const fact of [runId, checkpointId, 'gestalt.taps', 'npid']) expect(file.includes(fact)).toBe(true)
    const session = await InferenceSession.create(file)
    const corpus = await shapes.open(definition.dataset as never, memoryBytes())
    const { data, shape } = await corpus.test.read(Int32Array.from({ length: 8 }, (_, i) => i))
    const images = new OrtTensor('float32', toUnit(data), [8, ...shape])
    const { embed } = await session.run({ images })
    const { rows } = performed.recorded.embeddings.get('test')!
    const numbers = embed!.data as Float32Array
    expect(embed!.dims).toEqual([8, 8])
    expect(Math.max(...rows.map((value, i) => Math.abs(value - numbers[i]!)))).toBeLessThan(1e-4)
  })

  it('gives weights and statistics alone, which come back as weights to start from', async () => {
    const answer = await get(`/v1/checkpoints/${checkpointId}/export?as=safetensors`)
    expect(answer.statusCode).toBe(200)
    const { tensors, meta } = decodeSafetensors(answer.rawPayload, 'the export')
    const kept = performed.recorded.checkpoints.at(-1)!.checkpoint.tensors
    expect(meta).toMatchObject({ 'gestalt.run': runId, 'gestalt.step': '3' })
    expect(Object.keys(tensors).sort()).toEqual(
      Object.keys(kept)
        .filter((name) => !name.startsWith('optimizer/'))
        .sort(),
    )
    for (const [name, { data }] of Object.entries(tensors)) expect([...data]).toEqual([...kept[name]!.data])
    const added = await world.send('/v1/weights?name=again', undefined, {
      ...{ method: 'POST', payload: answer.rawPayload },
      headers: { 'content-type': 'application/octet-stream' },
    })
    expect(added.statusCode).toBe(201)
    const from = { weights: 'again' }
    expect((await world.send('/v1/experiments?dryRun=true', { ...definition, from })).statusCode).toBe(200)
  })

  it.each([
    ['as=onnx&tap=nowhere', "there is no tap 'nowhere'; there are: "],
    ['as=safetensors&tap=embed', 'is for onnx'],
    ['as=onnx&names=torchvision-vgg16', 'is for safetensors'],
    ['as=pickle', 'safetensors'],
  ])('refuses %s', async (query, why) => {
    const answer = await get(`/v1/runs/${runId}/export?${query}`)
    expect(answer.statusCode).toBe(400)
    expect(JSON.stringify(answer.json().errors)).toContain(why)
  })

  it('knows no run and no checkpoint that is not there', async () => {
    expect((await get(`/v1/runs/${newId()}/export?as=onnx`)).statusCode).toBe(404)
    expect((await get(`/v1/checkpoints/${newId()}/export?as=onnx`)).statusCode).toBe(404)
  })
})
