import type { Buffers } from './buffers.ts'
import type { Gpu } from './device.ts'
import type { Half } from './half.ts'
import type { Pipelines } from './pipelines.ts'
import type { Profile } from './profile.ts'
import type { Facts } from './shader.ts'
import type { Traffic } from './traffic.ts'

/** So many graphs may wait for the device; more would only hold memory. */
const mostQueued = 3

/** Graphs that were handed to the device and are not done. */
export class Queued {
  private readonly gpu: Gpu
  private readonly waiting: Promise<unknown>[] = []

  constructor(gpu: Gpu) {
    this.gpu = gpu
  }

  /** To be called after each; a promise where the device has more than enough to do. */
  submitted(): Promise<void> | undefined {
    const { device, rest } = this.gpu
    this.waiting.push(rest.until(device.queue.onSubmittedWorkDone()).catch(() => {}))
    if (this.waiting.length <= mostQueued) return undefined
    return this.waiting.shift()!.then(() => this.gpu.check())
  }
}

/** What programs share. */
export interface World {
  gpu: Gpu
  facts: Facts
  buffers: Buffers
  pipelines: Pipelines
  queued: Queued
  traffic: Traffic
  /** Where activations are stored in half precision: how. */
  half?: Half | undefined
  /** Where dispatches are timed. */
  profile?: Profile | undefined
}
