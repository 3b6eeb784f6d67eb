/// <reference types="@webgpu/types" />
import { type GestaltError, GpuFull, GpuLost, Unavailable } from '../../errors.ts'
import { chosenOf, listAdapters, loadDawn, type Opened, openAdapter } from './adapters.ts'
import { nothingFound, onlySoftware } from './diagnosis.ts'
import { Rest } from './rest.ts'

export interface GpuOptions {
  /** A number in the list of adapters, or a part of a name; default: the first GPU that serves. */
  choice?: string | undefined
  /** Whether an adapter that computes on the processor may be taken, where `choice` means it. Default: yes. */
  software?: boolean
  /** Dawn's toggles by name, set (true) or cleared (false) for the device; beside those that this file sets. */
  toggles?: Readonly<Record<string, boolean>>
  /** The file beside which the package is looked for. */
  from?: string
}

/** One shape of matrices that a subgroup multiplies as a whole, where a card has such units. */
export interface MatrixShape {
  componentType: string
  resultComponentType: string
  M: number
  N: number
  K: number
}

export interface GpuFeatures {
  /** How many invocations a subgroup has at least and at most; undefined where WGSL has none. */
  subgroups: { min: number; max: number } | undefined
  timestamps: boolean
  /** Whether WGSL has f16. */
  half: boolean
  /** Empty where WGSL has no subgroup matrices. */
  matrices: readonly MatrixShape[]
}

/** A GPU that is open for computing. */
export interface Gpu {
  readonly device: GPUDevice
  /** As its driver calls it: 'NVIDIA H200'. */
  readonly name: string
  /** What drives it, and its version. */
  readonly driver: string
  /** Of the package webgpu. */
  readonly version: string
  /** Whether it is the processor in disguise. */
  readonly software: boolean
  readonly limits: GPUSupportedLimits
  readonly features: GpuFeatures
  /** What went wrong first: the device was lost, or refused something; nothing after it can be trusted. */
  readonly failure: GestaltError | undefined
  /** Settled with `failure` once there is one; never otherwise. */
  readonly lost: Promise<GestaltError>
  /** Throws `failure` where there is one. */
  check(): void
  /** What the device tells later is waited for so. */
  readonly rest: Rest
  /** Waits for what is submitted, then gives all back. */
  close(): void
}

const wantedFeatures = [
  'timestamp-query',
  'shader-f16',
  'subgroups',
  'subgroup-size-control',
  'chromium-experimental-subgroup-matrix',
] as const

/**
 * Timestamps as exact as they come; subgroup matrices are still experimental in Dawn. No shader reads shared memory that
 * it has not written: cleared beforehand, SwiftShader takes ten times as long to compile it.
 */
const toggles = { timestamp_quantization: false, allow_unsafe_apis: true, disable_workgroup_init: true }

function flagsOf(wanted: Readonly<Record<string, boolean>>): string[] {
  const names = (state: boolean) => Object.keys(wanted).filter((name) => wanted[name] === state)
  return [
    ...(names(true).length > 0 ? [`enable-dawn-features=${names(true).join(',')}`] : []),
    ...(names(false).length > 0 ? [`disable-dawn-features=${names(false).join(',')}`] : []),
  ]
}

const roomCure = 'lower training.batchSize or use a smaller net, or a GPU with more memory'

/** What an uncaptured error of the device means for the run. */
function failureOf(error: GPUError, name: string): GestaltError {
  const text = error.message.split('\n')[0]!.slice(0, 400)
  if (error.constructor.name === 'GPUOutOfMemoryError')
    return new GpuFull(`the memory of the GPU ${name} does not suffice: ${text}`, roomCure)
  return new Unavailable(
    `the GPU ${name} refuses what it is told: ${text}`,
    'the run is taken up again from its checkpoint; if it happens again, update the driver or set GESTALT_ENGINE',
  )
}

/** Hears of everything that goes wrong, and keeps the first. */
function watch(device: GPUDevice, name: string) {
  let failure: GestaltError | undefined
  let closed = false
  let tell: (failure: GestaltError) => void
  const lost = new Promise<GestaltError>((resolve) => {
    tell = resolve
  })
  const fail = (error: GestaltError) => {
    if (closed || failure) return
    failure = error
    tell(error)
  }
  device.addEventListener('uncapturederror', (event) => {
    event.preventDefault() // Dawn would print it
    fail(failureOf((event as GPUUncapturedErrorEvent).error, name))
  })
  device.lost.then(({ reason, message }) =>
    fail(
      new GpuLost(
        `the GPU ${name} was lost (${reason}): ${message.split('\n')[0]!.slice(0, 400)}`,
        'the run is taken up again from its checkpoint; if it happens again, see that the GPU and its driver are well ' +
          "(the system's log; for NVIDIA 'nvidia-smi -q' and Xid messages)",
      ),
    ),
  )
  return {
    lost,
    failure: () => failure,
    close() {
      closed = true
    },
  }
}

function featuresOf({ adapter }: Opened, device: GPUDevice): GpuFeatures {
  const has = (name: string) => device.features.has(name)
  const info = adapter.info as GPUAdapterInfo & { subgroupMatrixConfigs?: Iterable<MatrixShape> }
  return {
    subgroups: has('subgroups') ? { min: info.subgroupMinSize!, max: info.subgroupMaxSize! } : undefined,
    timestamps: has('timestamp-query'),
    half: has('shader-f16'),
    matrices: has('chromium-experimental-subgroup-matrix') ? [...(info.subgroupMatrixConfigs ?? [])] : [],
  }
}

/** A device with all that its adapter can. */
async function openDevice(opened: Opened, version: string): Promise<Gpu> {
  const { adapter, name, software } = opened
  const limits: Record<string, number> = {}
  for (const limit in adapter.limits) limits[limit] = adapter.limits[limit as 'maxBufferSize']
  const features = wantedFeatures.filter((feature) => adapter.features.has(feature)) as GPUFeatureName[]
  const device = await adapter.requestDevice({ requiredLimits: limits, requiredFeatures: features }).catch((cause) => {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Unavailable(`the GPU ${name} gives no device: ${reason.split('\n')[0]}`, 'free it, or choose another', {
      cause,
    })
  })
  const watched = watch(device, name)
  return {
    ...{ device, name, driver: adapter.info.description, version, software, rest: new Rest() },
    ...{ limits: device.limits, features: featuresOf(opened, device), lost: watched.lost },
    get failure() {
      return watched.failure()
    },
    check() {
      const failure = watched.failure()
      if (failure) throw failure
    },
    close() {
      watched.close()
      device.destroy()
    },
  }
}

/**
 * Opens the GPU that is chosen, or the first that serves, with its limits and features raised to what it can. What
 * computes on the processor is taken only where it is meant. Throws Unavailable, with reason and cure, where there is
 * none.
 */
export async function openGpu(options: GpuOptions = {}): Promise<Gpu> {
  const dawn = await loadDawn(options.from)
  const all = await listAdapters(dawn)
  if (all.length === 0) throw await nothingFound(dawn.file)
  const flags = flagsOf({ ...toggles, ...options.toggles })
  const reasons: unknown[] = []
  const disguised: Opened[] = []
  for (const wanted of chosenOf(all, options.choice))
    try {
      const opened = await openAdapter(dawn, wanted, all, flags)
      if (!opened.software) return await openDevice(opened, dawn.version)
      disguised.push(opened)
    } catch (error) {
      reasons.push(error)
    }
  if (reasons.length > 0) throw reasons[0]
  const meant = options.choice !== undefined && options.software !== false
  if (!meant) throw await onlySoftware(dawn.file, disguised[0]!.name)
  return openDevice(disguised[0]!, dawn.version)
}
