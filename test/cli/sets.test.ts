import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { addDataset } from '../../src/cli/dataset.ts'
import type { Output } from '../../src/cli/output.ts'
import { type AddSetOptions, listSets, previewSet, removeSet, showSet, verifySet } from '../../src/cli/sets.ts'
import type { Config } from '../../src/config.ts'
import { images } from '../../src/data/images.ts'
import { openWorld, type World } from '../api/world.ts'
import { type Files, folders, picture, tarOf } from '../fixtures/pictures.ts'

let world: World
let config: Config
const folder = mkdtempSync(join(tmpdir(), 'gestalt-sets-'))
beforeAll(async () => {
  world = await openWorld({ token: 'a-token-of-some-length' })
  config = { ...world.parts.config, url: await world.listen() }
})
afterAll(async () => {
  await world.close()
  rmSync(folder, { recursive: true, force: true })
})

function put(name: string, files: Files): string {
  for (const [path, content] of Object.entries(files)) {
    const file = join(folder, name, path)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, content)
  }
  return join(folder, name)
}

/** What a command says to a person, its result, and its exit code. */
async function run(command: (output: Output) => Promise<number>) {
  const said: string[] = []
  let result: unknown
  const code = await command({
    json: false,
    say: (line = '') => said.push(line),
    result: (value, words) => {
      result = value
      said.push(words(value))
    },
  })
  return { code, said: said.join('\n'), result }
}

const add = (name: string, options: AddSetOptions) => run((output) => addDataset(config, output, name, options))

/** Labels and classes of a split as training sees them. */
async function labelsOf(set: string, split: 'train' | 'test') {
  const corpus = await images.open({ set, side: 8, fit: 'crop', channels: 3, testShare: 0.5 }, world.parts.bytes)
  const dataset = corpus[split]
  const { data, labels } = await dataset.read(Array.from({ length: dataset.size }, (_, i) => i))
  return { labels: labels && [...labels], first: [...data.subarray(0, 3)], classNames: dataset.classNames, dataset }
}

describe('gestalt dataset', () => {
  it('adds a folder labelled by folder, mixed, with its splits, and shows, lists, verifies, previews and removes it', async () => {
    const from = put('birds', {
      ...(await folders(['owl', 'jay', '10'], 4, 'train/')),
      ...(await folders(['owl', 'jay', '10'], 1, 'val/')),
      'train/owl/notes.txt': 'x',
      'train/.DS_Store': 'x',
    })
    const { code, said, result } = await add('birds', { from })
    expect([code, result]).toEqual([0, expect.objectContaining({ images: { train: 12, test: 3 } })])
    expect(said).toMatch(/sends 15 images \(folders\)[\s\S]*3 classes[\s\S]*8 high, 8 wide[\s\S]*"set": "birds"/)
    const { labels, classNames } = await labelsOf('birds', 'train')
    expect(classNames).toEqual(['10', 'jay', 'owl'])
    expect(new Set(labels!.slice(0, 6)).size).toBe(3)
    expect((await run((output) => listSets(config, output))).said).toMatch(/birds +12 +3 +3/)
    expect((await run((output) => showSet(config, output, 'birds'))).said).toMatch(/jay +4 +1/)
    const out = join(folder, 'birds.png')
    await run((output) => previewSet(config, output, 'birds', out))
    expect(readFileSync(out).subarray(1, 4).toString()).toBe('PNG')
    const well = await run((output) => verifySet(config, output, 'birds'))
    expect([well.code, well.said]).toEqual([0, 'birds: all 2 objects are as they were stored'])
    const { manifest } = await world.parts.sets.find('birds')
    await world.parts.objects.put(`datasets/sets/birds/${manifest.id}/00000.tar`, Buffer.from('other'))
    const damaged = await run((output) => verifySet(config, output, 'birds'))
    expect([damaged.code, damaged.said]).toEqual([1, expect.stringMatching(/00000\.tar: has 5 bytes instead of/)])
    expect((await run((output) => removeSet(config, output, 'birds'))).said).toMatch(/removed/)
    await expect(run((output) => showSet(config, output, 'birds'))).rejects.toMatchObject({ code: 'not-found' })
  })

  it('adds images without labels, decoded once where it is asked to', async () => {
    const from = put('flat', {
      'a.png': await picture(1),
      'b.b.png': await picture(2),
      'c.png': await picture(3, 0, 16),
    })
    expect((await add('flat', { from })).result).toMatchObject({ classes: [], unlabelled: 3 })
    const { result } = await add('small', { from, side: 4, channels: 1 })
    expect(result).toMatchObject({ shapes: { height: { least: 4, most: 4 }, grey: 3 } })
    const { labels } = await labelsOf('small', 'train')
    expect(labels).toBeUndefined()
  })

  it('adds a list of files with labels and splits', async () => {
    put('listed', {
      'pictures/a.1.png': await picture(1),
      'pictures/b, c.png': await picture(2),
      'd.png': await picture(3),
    })
    const list = put('listed', {
      'list.csv': 'path,label,split\npictures/a.1.png,owl,train\n"pictures/b, c.png",jay,test\nd.png,,\n',
    })
    const { result } = await add('listed', { from: join(list, 'list.csv') })
    expect(result).toMatchObject({
      images: { train: 2, test: 1 },
      unlabelled: 1,
      classes: [
        { name: 'jay', test: 1 },
        { name: 'owl', train: 1 },
      ],
    })
    const { labels, first } = await labelsOf('listed', 'train')
    expect([labels, first]).toEqual([
      [1, -1],
      [1, 0, 0],
    ])
    const missing = put('listed', { 'wrong.txt': 'pictures/none.png,owl\n' })
    await expect(add('wrong', { from: join(missing, 'wrong.txt') })).rejects.toThrow(/no readable .*none\.png/)
    expect((await run((output) => listSets(config, output))).said).not.toContain('wrong')
  })

  it('adds frames of videos in their order, with their class', async () => {
    const frames: Files = {}
    for (const [kind, video] of [
      [0, 'run/a'],
      [0, 'run/b'],
      [1, 'jump/c'],
    ] as const)
      for (const frame of [10, 9, 1]) frames[`${video}/${frame}.png`] = await picture(frame, kind)
    const { result } = await add('videos', { from: put('videos', frames), layout: 'frames' })
    expect(result).toMatchObject({
      sequences: 3,
      classes: [
        { name: 'jump', train: 3 },
        { name: 'run', train: 6 },
      ],
    })
    const corpus = await images.open(
      { set: 'videos', side: 8, fit: 'crop', channels: 3, testShare: 0.12 },
      world.parts.bytes,
    )
    const { sequence, frame } = await corpus.train.frames!()
    const { data, labels } = await corpus.train.read([...sequence.keys()])
    const numbers = [1, 9, 10]
    for (const [i, video] of [...sequence].entries()) {
      expect(data[i * 192]).toBe(numbers[frame[i]!])
      expect(labels![i]).toBe(video === 0 ? 0 : 1)
    }
  })

  it('adds WebDataset archives, whose names say their splits, and keeps numbers as labels', async () => {
    const from = put('wds', {
      'w-train-0.tar': tarOf({ 'a.png': await picture(1), 'a.cls': '7', 'b.cls': '2', 'b.png': await picture(2) }),
      'w-val-0.tar': tarOf({ 'a.png': await picture(3), 'a.json': '{"label": 2}' }),
    })
    const { result } = await add('wds', { from })
    expect(result).toMatchObject({ images: { train: 2, test: 1 } })
    expect((await labelsOf('wds', 'train')).labels).toEqual([7, 2])
    expect((await labelsOf('wds', 'test')).dataset.classes).toBe(8)
  })

  it('says what is wrong, and leaves nothing', async () => {
    const mixed = put('mixed', { 'a.png': await picture(1), 'owl/b.png': await picture(2) })
    await expect(add('mixed', { from: mixed })).rejects.toThrow(/--layout folders or --layout flat/)
    const bad = put('bad', { ...(await folders(['owl', 'jay'], 2)), 'owl/bad.jpg': 'no image' })
    await expect(add('bad', { from: bad })).rejects.toThrow(/'owl\/bad\.jpg' is no picture/)
    expect((await add('bad', { from: bad, skipDamaged: true })).said).toMatch(
      /left out, since damaged: 1\n +'owl\/bad\.jpg' is no picture/,
    )
    await expect(add('bad', { from: bad })).rejects.toMatchObject({ code: 'conflict' })
    await expect(add('none', {})).rejects.toThrow(/either --from or --prefix/)
    await expect(add('none', { from: join(folder, 'nowhere') })).rejects.toMatchObject({ code: 'not-found' })
    const elsewhere = { ...config, url: 'http://127.0.0.1:1' }
    await expect(run((output) => addDataset(elsewhere, output, 'x', { from: bad }))).rejects.toMatchObject({
      code: 'unavailable',
    })
  })
})
