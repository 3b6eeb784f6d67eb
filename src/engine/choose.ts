import { cpus } from 'node:os'
import { Unavailable } from '../errors.ts'
import type { EngineRecord } from '../experiments/run.ts'
import { tf } from '../tf.ts'
import { startWasm } from './wasm.ts'

/** What a person may ask for: `auto` is the fastest that works on this machine. */
export type EngineName = 'auto' | 'wasm' | 'cpu'

/**
 * Chooses what computes for the whole process and says what it is. Throws Unavailable where the wanted one does not
 * work on this machine.
 */
export async function chooseEngine(wanted: EngineName): Promise<EngineRecord> {
  if (wanted !== 'cpu' && !(await startWasm().catch(() => false)) && wanted === 'wasm')
    throw new Unavailable('the wasm engine does not start on this machine', 'reinstall the packages, or ask for "auto"')
  const name = wanted !== 'cpu' && tf.getBackend() === 'wasm' ? 'wasm' : 'cpu'
  if (name === 'cpu') await tf.setBackend('cpu')
  await tf.ready()
  return {
    name,
    version: tf.version['tfjs-core'] ?? tf.version_core,
    threads: 1,
    device: cpus()[0]?.model.trim() || process.arch,
  }
}
