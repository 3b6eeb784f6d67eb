import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { EngineRecord } from '../../src/experiments/run.ts'
import { findGpu, type GpuUsage } from '../../src/jobs/gpu-watch.ts'
import { askCards, likelyCards, readCards } from '../../src/jobs/nvidia.ts'
import { eventually } from '../eventually.ts'
import { nvidiaSmi, nvidiaSmiPrinting, oneCard } from '../fixtures/nvidia-smi.ts'

const mebibyte = 2 ** 20
const engine: EngineRecord = { name: 'tensorflow', version: '4.99.0', threads: 1, device: 'GPU', gpu: true }
const other = '1, GPU-11111111-2222, NVIDIA T4, 15360, 100, 5'

describe('what nvidia-smi prints', () => {
  it('is read in bytes and shares', () => {
    expect(readCards(`${oneCard}\r\n`)).toEqual([
      {
        ...{ index: 0, uuid: 'GPU-8f3c1f2e-0000', name: 'NVIDIA H200' },
        ...{ memoryBytes: 143771 * mebibyte, usedBytes: 2048 * mebibyte, utilisation: 0.37 },
      },
    ])
  })

  it('may leave out what a card does not tell, hold commas in a name, and say more than numbers', () => {
    const text = [
      'Warning: infoROM is corrupted at gpu 0000:65:00.0',
      '0, GPU-a, NVIDIA GB10, [N/A], [N/A], [Not Supported]',
      '1, GPU-b, Tesla, special, 100 MiB, 7 MiB, 100 %',
      '2, GPU-c, A100, 40960, [Unknown Error], 101',
      '',
    ].join('\n')
    expect(readCards(text)).toMatchObject([
      { name: 'NVIDIA GB10', memoryBytes: undefined, usedBytes: undefined, utilisation: undefined },
      { name: 'Tesla, special', memoryBytes: 100 * mebibyte, usedBytes: 7 * mebibyte, utilisation: 1 },
      { name: 'A100', usedBytes: undefined, utilisation: 1 },
    ])
  })

  it.each([
    ['is not there', undefined, /not there/, true],
    ['fails', 'echo "NVIDIA-SMI has failed: the driver is not loaded"; exit 9', /driver is not loaded/, false],
    ['fails without a word', 'exit 9', /ends with 9/, false],
    ['lists nothing', 'echo No devices were found', /lists no GPU/, false],
    ['hangs', 'sleep 60', /does not answer within 0\.2 s/, false],
  ])('is not waited for where it %s', async (_, script, fault, absent) => {
    const environment = script === undefined ? { PATH: '/nowhere' } : nvidiaSmi(script).environment
    const answer = await askCards({ environment, seconds: script === 'sleep 60' ? 0.2 : 30 })
    expect(answer).toEqual({ fault: expect.stringMatching(fault), absent })
  })
})

describe('the GPU that is meant', () => {
  const cards = readCards(`${oneCard}\n${other}`)
  const twins = readCards(`${oneCard}\n${oneCard.replace('0, GPU-8f', '1, GPU-9a')}`)
  const indices = (...given: Parameters<typeof likelyCards>) => likelyCards(...given).map(({ index }) => index)

  it.each([
    ['the only one', cards.slice(0, 1), 'GPU', {}, [0]],
    ['that of its name', cards, 'NVIDIA T4 (Vulkan)', {}, [1]],
    ['that which CUDA is shown, by number', twins, 'GPU', { CUDA_VISIBLE_DEVICES: '1,0' }, [1]],
    ['that which CUDA is shown, by id', cards, 'GPU', { CUDA_VISIBLE_DEVICES: 'GPU-1111' }, [1]],
    ['no number of unlike ones that CUDA may order otherwise', cards, 'GPU', { CUDA_VISIBLE_DEVICES: '1' }, [0, 1]],
    [
      'their number where CUDA keeps the order',
      cards,
      'GPU',
      { CUDA_VISIBLE_DEVICES: '1', CUDA_DEVICE_ORDER: 'PCI_BUS_ID' },
      [1],
    ],
    ['any of several', cards, 'GPU', {}, [0, 1]],
    ['any of those of its name', twins, 'NVIDIA H200', {}, [0, 1]],
  ])('is %s', (_, listed, device, environment, expected) => {
    expect(indices(listed, { name: 'tensorflow', device }, environment)).toEqual(expected)
  })

  it('is not what CUDA is shown where Vulkan chose', () => {
    expect(indices(twins, { name: 'webgpu', device: 'GPU' }, { CUDA_VISIBLE_DEVICES: '1' })).toEqual([0, 1])
  })
})

/** A log as a list, and what was measured. */
function recording() {
  const lines: string[] = []
  const seen: GpuUsage[] = []
  const say = (text: string) => void lines.push(text)
  return { lines, seen, log: { info: say, warn: say, error: say }, onUsage: (usage: GpuUsage) => void seen.push(usage) }
}

describe("a worker's GPU", () => {
  it('is measured again and again, and known by name and memory', async () => {
    const { environment, folder } = nvidiaSmi('cat "$(dirname "$0")/says"')
    writeFileSync(join(folder, 'says'), oneCard)
    const { lines, seen, log, onUsage } = recording()
    const gpu = await findGpu(engine, { environment, log, seconds: 0.02 })
    expect(gpu).toMatchObject({ name: 'NVIDIA H200', memoryBytes: 143771 * mebibyte })
    const watch = gpu.watch(onUsage)
    const usage = { utilisation: 0.37, usedBytes: 2048 * mebibyte, freeBytes: 141723 * mebibyte }
    expect(seen).toEqual([usage])
    writeFileSync(join(folder, 'next'), oneCard.replace(', 37', ', 90'))
    renameSync(join(folder, 'next'), join(folder, 'says'))
    await eventually(() => expect(seen.at(-1)).toEqual({ ...usage, utilisation: 0.9 }))
    await watch.close()
    expect(await gpu.look()).toEqual({ ...usage, utilisation: 0.9 })
    expect(lines).toEqual([])
  })

  it('keeps its own facts where nvidia-smi fails, which the log says once, and it is asked less often', async () => {
    const { environment, folder } = nvidiaSmi('echo >> "$(dirname "$0")/asked"; exit 9')
    const { lines, seen, log, onUsage } = recording()
    const gpu = await findGpu({ ...engine, gpuMemory: 2 ** 33 }, { environment, log, seconds: 0.001 })
    expect(gpu).toMatchObject({ name: 'GPU', memoryBytes: 2 ** 33 })
    const watch = gpu.watch(onUsage)
    await eventually(() => expect(readFileSync(join(folder, 'asked'), 'utf8').length).toBeGreaterThanOrEqual(3))
    await watch.close()
    expect(seen[0]).toEqual({})
    expect(await gpu.look()).toEqual({})
    expect(lines).toEqual([expect.stringMatching(/are not told, for nvidia-smi does not help: it ends with 9/)])
  })

  it('is not measured where there is no nvidia-smi', async () => {
    const { lines, log, onUsage } = recording()
    const gpu = await findGpu(engine, { environment: { PATH: '/nowhere' }, log, seconds: 0.001 })
    expect(gpu.memoryBytes).toBeUndefined()
    expect(await gpu.look()).toEqual({})
    await gpu.watch(onUsage).close()
    expect(lines).toEqual([expect.stringMatching(/it is not there$/)])
  })

  it('is not taken for another that nvidia-smi lists', async () => {
    const { environment, folder } = nvidiaSmi('echo >> "$(dirname "$0")/asked"')
    const { lines, log, onUsage } = recording()
    const gpu = await findGpu({ ...engine, device: 'AMD Radeon RX 7900' }, { environment, log })
    expect(gpu).toMatchObject({ name: 'AMD Radeon RX 7900', memoryBytes: undefined })
    await gpu.watch(onUsage).close()
    expect(await gpu.look()).toEqual({})
    expect([lines, existsSync(join(folder, 'asked'))]).toEqual([[], false])
  })

  it('has what all have in common where several may be meant, and is not measured', async () => {
    const { environment } = nvidiaSmiPrinting(oneCard, oneCard.replace('0, GPU-8f', '1, GPU-9a'))
    const { lines, seen, log, onUsage } = recording()
    const gpu = await findGpu({ ...engine, device: 'NVIDIA H200' }, { environment, log })
    expect(gpu).toMatchObject({ name: 'NVIDIA H200', memoryBytes: 143771 * mebibyte })
    await gpu.watch(onUsage).close()
    expect(seen).toEqual([{}])
    expect(lines).toEqual([expect.stringMatching(/lists 2 GPUs that may be meant; .*CUDA_VISIBLE_DEVICES/)])
  })

  it('says once what a card does not tell', async () => {
    const { environment } = nvidiaSmiPrinting('0, GPU-a, NVIDIA GB10, [N/A], [N/A], 12')
    const { lines, seen, log, onUsage } = recording()
    const gpu = await findGpu(engine, { environment, log, seconds: 0.001 })
    expect(gpu).toMatchObject({ name: 'NVIDIA GB10', memoryBytes: undefined })
    const watch = gpu.watch(onUsage)
    await eventually(() => expect(seen.length).toBeGreaterThan(2))
    await watch.close()
    expect(seen[1]).toEqual({ utilisation: 0.12 })
    expect(lines).toEqual(['nvidia-smi does not tell the memory in use of NVIDIA GB10'])
  })
})
