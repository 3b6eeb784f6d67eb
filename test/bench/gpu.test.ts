import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { compare } from '../../bench/gpu/report.ts'
import { costOf, rows, tinyRows } from '../../bench/gpu/rows.ts'
import { hasSwiftShader, swiftShader } from '../swiftshader.ts'

// A bundle is written and several processes compute.
vi.setConfig({ testTimeout: 300_000 })

const row = (name: string) => rows.find((own) => own.name.startsWith(name))!

describe('the rows of the GPU bench', () => {
  it('train the nets that everybody knows', () => {
    expect(costOf(row('ResNet-18')).weights).toBe(11_173_962)
    expect(costOf(row('ResNet-50')).weights).toBe(25_557_032)
    expect(costOf(row('VGG-16')).weights).toBe(138_357_544)
    // Three times 4.09 and 15.5 billion multiply-adds.
    expect(costOf(row('ResNet-50')).flops / 6e9).toBeCloseTo(4.09, 2)
    expect(costOf(row('VGG-16')).flops / 6e9).toBeCloseTo(15.47, 2)
  })

  it('count what a bank and a clustering cost', () => {
    expect(costOf(row('NPID')).flops).toBeGreaterThan(4 * 128 * 1_000_000)
    expect(costOf(row('k-means')).flops).toBe(2 * 1_000_000 * 256 * 1000 * 6)
  })

  it('have tiny ones beside them', () => {
    expect(tinyRows.map(({ name }) => name)).toEqual(rows.map(({ name }) => `${name} (tiny)`))
    for (const tiny of tinyRows) expect(costOf(tiny).flops).toBeLessThan(1e9)
  })

  it('are compared at their fastest batch, with the card and with PyTorch', () => {
    const step = (batch: number, imagesPerSecond: number) => {
      return { batch, steps: 5, milliseconds: (1000 * batch) / imagesPerSecond, imagesPerSecond, loss: 1 }
    }
    const told = { steps: [step(32, 500), step(64, 1000), step(128, 900)], error: 'no room' }
    const peer = { fp32: { imagesPerSecond: 1500 }, tf32: { imagesPerSecond: 2000 } }
    const found = compare(row('ResNet-50'), told, peer, { matmulTflops: 50, copyGBs: 4000 })
    expect(found).toMatchObject({ batch: 64, imagesPerSecond: 1000, error: 'no room', ratio: { tf32: 0.5 } })
    expect(found.ratio.fp32).toBeCloseTo(2 / 3)
    expect(found.matmulShare).toBeCloseTo((1000 * 4.09 * 6e9) / 50e12, 3)
    const nothing = compare(row('k-means'), { steps: [] }, {}, { matmulTflops: null, copyGBs: null })
    expect(nothing).toMatchObject({ batch: null, seconds: null, tflops: null, ratio: { fp32: null, tf32: null } })
  })
})

describe.skipIf(!hasSwiftShader || process.platform !== 'linux' || process.arch !== 'x64')('the bundle', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gestalt-gpu-bench-'))
  afterAll(() => rmSync(folder, { recursive: true }))

  it('is small enough, says what is in it, and measures with nothing else at hand', () => {
    const file = join(folder, 'bench.tar.gz')
    const root = new URL('../..', import.meta.url)
    execFileSync(process.execPath, ['bench/run.js', 'gpu', '--bundle', file], { cwd: root })
    expect(statSync(file).size).toBeLessThan(64 * 2 ** 20)
    execFileSync('tar', ['-xzf', file, '-C', folder])
    const manifest = readFileSync(join(folder, 'gestalt-gpu-bench/MANIFEST'), 'utf8')
    for (const name of ['bin/node', 'dawn.node', 'lib/libvulkan.so.1', 'app/gpu.js', 'app/gpu/peer.py', 'run.sh'])
      expect(manifest).toContain(name)
    const { stdout, stderr, status } = spawnSync(
      join(folder, 'gestalt-gpu-bench/run.sh'),
      ['--tiny', '--gpu', 'swiftshader', '--only', 'F-S,NPID,k-means', '--python', 'no-python-here'],
      { env: { PATH: '/usr/bin:/bin', ...swiftShader }, cwd: '/', encoding: 'utf8' },
    )
    expect({ stderr, status }).toMatchObject({ status: 0 })
    expect(stdout).toContain(manifest)
    const result = JSON.parse(stdout.trimEnd().split('\n').at(-1)!)
    expect(result).toMatchObject({ bench: 'gpu', device: 'SwiftShader Device (Subzero)', tiny: true })
    expect(result.rows.map(({ error }: { error: unknown }) => error)).toEqual([null, null, null])
    expect(result.rates.copyGBs).toBeGreaterThan(0)
    expect(result.rates.matmulTflops).toBeGreaterThan(0)
  })

  it('says which package it lacks where there is no strip', () => {
    const root = new URL('../..', import.meta.url)
    const words = ['bench/run.js', 'gpu', '--bundle', join(folder, 'none.tar.gz')]
    const env = { ...process.env, PATH: '/nowhere' }
    const { stderr, status } = spawnSync(process.execPath, words, { cwd: root, env, encoding: 'utf8' })
    expect(status).not.toBe(0)
    expect(stderr).toMatch(/no program strip, .*install binutils/)
  })
})
