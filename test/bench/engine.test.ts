import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { parseOptions } from '../../bench/engine/options.ts'
import { startPlayer } from '../../bench/engine/player.ts'
import { compare, geometricMean, header, line, median, peaksOf, type Timing } from '../../bench/engine/report.ts'
import { planRow, type Row, rows, stepFlops } from '../../bench/engine/rows.ts'
import { drawState, readState, writeState } from '../../bench/engine/state.ts'
import { fieldPixels, prepareTraining } from '../../bench/engine/training.ts'
import { tf } from '../../src/tf.ts'

const named = (name: string) => rows.find((row) => row.name === name)!

const tiny: Row = {
  ...{ name: 'tiny', batch: 2, image: [4, 4, 2], loss: 'classes', learningRate: 0.1, momentum: 0.9 },
  layers: [
    { kind: 'conv', size: 3, stride: 1, channels: 3 },
    { kind: 'pool', size: 2, stride: 2 },
    { kind: 'dense', units: 10, relu: false },
  ],
}

describe('the nets of the engine bench', () => {
  it.each([
    // 784 x 9 x 16 + 196 x 144 x 32 + 49 x 288 x 64, then 576 x 10.
    ['F-S', 112_896 + 903_168 + 903_168 + 5_760],
    // 1024 x 27 x 16 + 256 x 144 x 32 + 64 x 288 x 64, then 1024 x 10.
    ['C-S', 442_368 + 1_179_648 + 1_179_648 + 10_240],
    // 1024 x (27 + 288) x 32 + 256 x (288 + 576) x 64, then 4096 x 128 and 128 x 10.
    ['wide', 10_321_920 + 14_155_776 + 524_288 + 1_280],
    // 1024 x 147 x 64, 225 x 1600 x 192, 49 x (1728 x 384 + 3456 x 256 + 2304 x 256), then 2304 x 1024 and 1024 x 10.
    ['alexnet', 9_633_792 + 69_120_000 + 104_767_488 + 2_359_296 + 10_240],
    // As F-S up to 576 x 128, then 128 x 10,000 with the bank.
    ['npid', 1_919_232 + 73_728 + 1_280_000],
    // 11 x 11 fields of 64 pixels, 8 maps, there and back.
    ['local', 2 * 121 * 64 * 8],
  ])('%s takes as many multiply-adds as counted by hand', (name, multiplyAdds) => {
    expect(planRow(named(name)).multiplyAdds).toBe(multiplyAdds)
    expect(stepFlops(named(name))).toBe(6 * 128 * multiplyAdds)
  })

  it('sixteen layers of the VGG-like net have weights, and the last map is 2 x 2', () => {
    const { weights } = planRow(named('vgg16'))
    expect(weights.filter(({ shape }) => shape.length > 1)).toHaveLength(16)
    expect(weights.find(({ name }) => name === 'dense19/weights')?.shape).toEqual([2 * 2 * 256, 512])
  })

  it('lists the pixels of receptive fields row by row', () => {
    expect([...fieldPixels([3, 5, 1], 2, 2)]).toEqual([0, 1, 5, 6, 2, 3, 7, 8])
  })
})

describe('where a training of the engine bench starts', () => {
  const folder = mkdtempSync(join(tmpdir(), 'engine-bench-test-'))
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  it('is the same numbers each time, and reads back as written', () => {
    const state = drawState(tiny)
    expect(drawState(tiny)).toEqual(state)
    expect(Object.keys(state)).toEqual([
      ...['conv1/filter', 'conv1/bias', 'dense3/weights', 'dense3/bias'],
      ...['images', 'labels'],
    ])
    expect(state['dense3/weights']?.shape).toEqual([12, 10])
    const file = join(folder, 'state.bin')
    expect(readState(file, writeState(state, file))).toEqual(state)
  })

  it('gives every image of a bank row a slot of its own', () => {
    const { labels, bank } = drawState(named('npid'))
    expect(new Set(labels!.values).size).toBe(128)
    expect(bank!.shape).toEqual([10_000, 128])
  })
})

describe('a training of the engine bench', () => {
  it.each([
    tiny,
    { ...tiny, name: 'small', layers: [{ kind: 'block', channels: 3 }, tiny.layers[2]!] } satisfies Row,
    {
      ...tiny,
      ...{ name: 'bank', loss: 'instances', layers: [{ kind: 'block', channels: 3 }, tiny.layers[2]!] },
      ...{ slots: 9, temperature: 0.07, bankMomentum: 0.5 },
    } satisfies Row,
    {
      ...tiny,
      ...{ name: 'fields', loss: 'patches', image: [5, 5, 1], learningRate: 0.001 },
      layers: [{ kind: 'local', field: 3, stride: 2, maps: 2 }],
    } satisfies Row,
  ])('lowers the loss of $name and leaves no tensor', async (row) => {
    await tf.setBackend('cpu')
    const before = tf.memory().numTensors
    const training = prepareTraining(row, drawState(row))
    const losses = Array.from({ length: 5 }, () => training.step())
    training.dispose()
    expect(losses.at(-1)!).toBeLessThan(losses[0]!)
    expect(tf.memory().numTensors).toBe(before)
  })
})

describe('the arguments of the engine bench', () => {
  it('are all rows, seven rounds, one and two threads unless said', () => {
    const defaults = { rounds: 7, threads: [1, 2], python: 'python3', save: false }
    expect(parseOptions([])).toEqual({ ...defaults, only: rows.map(({ name }) => name) })
    const words = ['--only', 'F-S,wide', '--rounds', '3', '--threads', '2', '--python', '/opt/python', '--save']
    const wanted = { only: ['F-S', 'wide'], rounds: 3, threads: [2], python: '/opt/python', save: true }
    expect(parseOptions(words)).toEqual(wanted)
  })

  it.each([
    [['--only', 'F-X'], /no row 'F-X'; there are: F-S, C-S/],
    [['--rounds', '0'], /--rounds takes whole numbers from 1 on, not '0'/],
    [['--threads', '1,two'], /--threads takes whole numbers from 1 on, not 'two'/],
    [['--quick'], /--quick/],
  ])('%j are refused with what would have been right', (words, message) => {
    expect(() => parseOptions(words)).toThrow(message)
  })
})

describe('the report of the engine bench', () => {
  const timing = (engine: string, threads: number, variant: string, milliseconds: number[], loss: number): Timing => ({
    ...{ engine, threads, variant, milliseconds },
    losses: [9, loss],
  })
  const timings = [
    timing('onnx', 1, 'ours', [8, 30, 10], 2.002),
    timing('onnx', 2, 'ours', [4], 2),
    timing('torch', 1, 'contiguous', [40, 40, 40], 3),
    timing('torch', 1, 'channels_last', [15, 14, 90], 2),
  ]
  const found = compare(named('F-S'), timings, { 1: 300 })

  it('takes the middle of the values, the lower of two', () => {
    expect(median([5, 1, 9])).toBe(5)
    expect(median([4, 1, 9, 2])).toBe(2)
  })

  it("sets the median beside the faster form of PyTorch's with as many threads", () => {
    const flops = 6 * 128 * 1_924_992
    expect(found[0]).toEqual({
      ...{ name: 'F-S', engine: 'onnx', threads: 1, batch: 128, milliseconds: 10, spread: [8, 30] },
      gflops: Math.round(flops / 10 / 1e5) / 10,
      peakShare: Math.round((1000 * flops) / 10 / 1e6 / 300) / 1000,
      ...{ torchMilliseconds: 15, torchVariant: 'channels_last', torchSpread: [14, 90], ratio: 1.5, bestRatio: 1.75 },
      lossDifference: expect.closeTo(1e-3, 6),
    })
  })

  it('leaves empty what was not measured', () => {
    expect(found[1]).toMatchObject({ torchMilliseconds: null, ratio: null, lossDifference: null, peakShare: null })
    expect(geometricMean(found.slice(1), 'onnx')).toBeNull()
    expect(line(found[1]!)).toHaveLength(header.length)
  })

  it('averages the ratios of one engine as factors', () => {
    const ratios = [2, 0.5, 8].map((ratio) => ({ ...found[0]!, ratio }))
    expect(geometricMean([...ratios, { ...found[0]!, engine: 'wasm', ratio: 0.01 }], 'onnx')).toBe(2)
  })

  it('takes the fastest matrix product for the peak of the machine', () => {
    expect(peaksOf({ onnx: { 1: 140, 2: 280 }, torch: { 2: 400 } })).toEqual({ 1: 140, 2: 400 })
  })
})

describe('a player of the engine bench', () => {
  const start = (script: string) =>
    startPlayer({ name: 'echo', threads: 1, variants: () => [] }, [process.execPath, '-e', script], process.env)

  it('answers command by command, and passes errors on', async () => {
    const player = start(`
      require('node:readline').createInterface({ input: process.stdin }).on('line', (line) =>
        console.log(line.includes('peak') ? '{"error":"no peak"}' : line))`)
    expect(await player.ask({ command: 'hello' })).toEqual({ command: 'hello' })
    await expect(player.ask({ command: 'peak' })).rejects.toThrow('echo: no peak')
    player.end()
  })

  it('rejects where its process does not start or has ended', async () => {
    const gone = start("console.error('no torch here'); process.exit(3)")
    await expect(gone.ask({ command: 'hello' })).rejects.toThrow(/echo.*ended.*no torch here/s)
    await expect(gone.ask({ command: 'hello' })).rejects.toThrow(/has ended/)
    const side = { name: 'nobody', threads: 1, variants: () => [] }
    const never = startPlayer(side, ['/nowhere/python'], {})
    await expect(never.ask({ command: 'hello' })).rejects.toThrow(/ENOENT/)
    await expect(never.ask({ command: 'hello' })).rejects.toThrow(/ENOENT/)
  })
})
