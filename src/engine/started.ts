import { cpus } from 'node:os'

/** A backend of tfjs that has been set and waits for the self-test. */
export interface Started {
  version: string
  threads: number
  device: string
  /** Whether `device` is a GPU. */
  gpu?: boolean
  /** Of the GPU in bytes, where the engine knows it. */
  gpuMemory?: number
  /** Whether it can store activations in half precision. */
  half?: boolean
  /** What drives the GPU, with its version, where the engine knows it. */
  driver?: string
  /** Gives back what it holds, where it does not serve. */
  dispose?(): void
}

/** This machine's, as it names itself. */
export function processor(): string {
  return cpus()[0]?.model.trim() || process.arch
}
