import { expect, it, vi } from 'vitest'
import { chooseEngine } from '../../src/engine/choose.ts'
import { tf } from '../../src/tf.ts'

const events = ['uncaughtException', 'unhandledRejection'] as const
const listeners = () => events.map((event) => process.listenerCount(event))

it('starts wasm without a word and without listeners of its own, and says what it is', async () => {
  const spoken = (['log', 'info', 'warn', 'error'] as const).map((way) => vi.spyOn(console, way))
  const before = listeners()
  const record = await chooseEngine('auto')
  expect(record).toMatchObject({ name: 'wasm', version: '4.22.0', threads: 1 })
  expect(record.device).not.toBe('')
  expect(tf.getBackend()).toBe('wasm')
  expect(listeners()).toEqual(before)
  for (const way of spoken) expect(way).not.toHaveBeenCalled()
})

it('uses plain JavaScript where it is asked to, and wasm again after that', async () => {
  expect((await chooseEngine('cpu')).name).toBe('cpu')
  expect(tf.getBackend()).toBe('cpu')
  expect((await chooseEngine('wasm')).name).toBe('wasm')
  expect(tf.getBackend()).toBe('wasm')
})
