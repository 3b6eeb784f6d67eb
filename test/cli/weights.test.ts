import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exportFile } from '../../src/cli/export.ts'
import type { Output } from '../../src/cli/output.ts'
import { plan } from '../../src/cli/plan.ts'
import { addWeights, listWeights, removeWeights } from '../../src/cli/weights.ts'
import type { Config } from '../../src/config.ts'
import { Conflict, InvalidDefinition, NotFound } from '../../src/errors.ts'
import { encodeSafetensors } from '../../src/store/safetensors.ts'
import { definition, openWorld, type World } from '../api/world.ts'

let world: World
let config: Config
const folder = mkdtempSync(join(tmpdir(), 'gestalt-weights-'))
const path = (name: string) => join(folder, name)
const token = 'a-token-of-some-length'

beforeAll(async () => {
  world = await openWorld({ token })
  config = { ...world.parts.config, url: await world.listen() }
  const tensors: Record<string, { dtype: 'F32'; shape: number[]; data: Float32Array }> = {}
  const add = (name: string, shape: number[]) => {
    tensors[name] = { dtype: 'F32', shape, data: new Float32Array(shape.reduce((a, b) => a * b)).fill(0.5) }
  }
  for (const [i, from] of [1, 4, 4].entries()) {
    add(`module.${i}.weight`, [4, from, 3, 3])
    for (const part of ['weight', 'bias', 'running_mean', 'running_var']) add(`module.n${i}.${part}`, [4])
  }
  writeFileSync(path('net.safetensors'), Buffer.concat([...encodeSafetensors(tensors, { made: 'elsewhere' })]))
  const named = Object.fromEntries(
    [0, 1, 2].flatMap((i) => [
      [`${i}.weight`, `weights/conv${i + 1}/filter`],
      [`n${i}.weight`, `weights/norm${i + 1}/scale`],
      [`n${i}.bias`, `weights/norm${i + 1}/offset`],
      [`n${i}.running_mean`, `memory/norm${i + 1}/mean`],
      [`n${i}.running_var`, `memory/norm${i + 1}/variance`],
    ]),
  )
  writeFileSync(path('map.json'), JSON.stringify({ strip: 'module.', tensors: named }))
})
afterAll(async () => {
  await world.close()
  rmSync(folder, { recursive: true, force: true })
})

/** Keeps the results that a command prints. */
function listener(): Output & { results: unknown[]; words: string[] } {
  const results: unknown[] = []
  const words: string[] = []
  const result: Output['result'] = (value, inWords) => {
    results.push(value)
    words.push(inWords(value))
  }
  return { json: true, say: () => {}, result, results, words }
}

describe('gestalt weights', () => {
  it('sends a file with its map, from which a definition can then start', async () => {
    const output = listener()
    const from = path('net.safetensors')
    expect(await addWeights(config, output, 'lab', { from, map: path('map.json') })).toBe(0)
    expect(output.words[0]).toMatch(/^weights lab: 15 tensors, 3\.\d KiB, sha256 [0-9a-f]{64}$/)
    await listWeights(config, output)
    expect(output.words[1]).toContain('lab   map')
    writeFileSync(path('definition.json'), JSON.stringify(definition({ from: { weights: 'lab' } })))
    await plan(config, output, [path('definition.json')])
    expect(output.words[2]).toContain('taken            15 tensors of the net; drawn: none')
  })

  it('says what does not fit, and what is not there', async () => {
    const output = listener()
    const from = path('net.safetensors')
    await expect(addWeights(config, output, 'raw', { from })).rejects.toThrow(/module\.0\.weight.*is no name of ours/)
    await expect(addWeights(config, output, 'raw', { from, preset: 'torchvision-vgg16' })).rejects.toThrow(
      /not in the map/,
    )
    await expect(addWeights(config, output, 'raw', { from: path('none') })).rejects.toThrow(NotFound)
    await expect(addWeights(config, output, 'raw', { from, map: from })).rejects.toThrow(InvalidDefinition)
    await expect(addWeights(config, output, 'lab', { from: path('map.json') })).rejects.toThrow(/no safetensors file/)
  })

  it('removes them unless a run starts from them', async () => {
    const output = listener()
    await addWeights(config, output, 'other', { from: path('net.safetensors'), map: path('map.json') })
    await removeWeights(config, output, 'other')
    await expect(removeWeights(config, output, 'other')).rejects.toThrow(NotFound)
    const headers = { authorization: `Bearer ${token}` }
    const accepted = await world.send('/v1/experiments', definition({ from: { weights: 'lab' } }), { headers })
    expect(accepted.statusCode).toBe(202)
    await expect(removeWeights(config, output, 'lab')).rejects.toThrow(Conflict)
  })
})

describe('gestalt export', () => {
  it('names a folder that is not there before it asks the server', async () => {
    const asked = { as: 'onnx', output: join(tmpdir(), 'no-such-folder', 'net.onnx') }
    await expect(exportFile(config, listener(), 'no-run', asked)).rejects.toThrow(
      /there is no folder .*no-such-folder$/,
    )
  })

  it('leaves no file where there is nothing to export', async () => {
    const asked = { as: 'onnx', output: path('net.onnx') }
    await expect(exportFile(config, listener(), 'no-run', asked)).rejects.toThrow(NotFound)
    expect(() => readFileSync(path('net.onnx'))).toThrow(/ENOENT/)
  })
})
