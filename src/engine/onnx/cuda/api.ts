import { createRequire } from 'node:module'
import { basename } from 'node:path'
import { Unavailable } from '../../../errors.ts'

/** Where something of the runtime lies. */
export type Handle = bigint

/** The version of the C API that is asked for; libraries of later versions have it too. */
const apiVersion = 30

/** Those functions of the C API (onnxruntime_c_api.h) that give a status: their places in its table, and what they take. */
const functions = {
  CreateEnv: [3, 'int level, const char *name, void *made'],
  CreateSessionFromArray: [8, 'void *env, void *model, size_t bytes, void *options, void *made'],
  CreateSessionOptions: [10, 'void *made'],
  DisableMemPattern: [17, 'void *options'],
  SetSessionLogSeverityLevel: [22, 'void *options, int level'],
  SetSessionGraphOptimizationLevel: [23, 'void *options, int level'],
  SetIntraOpNumThreads: [24, 'void *options, int count'],
  SetInterOpNumThreads: [25, 'void *options, int count'],
  CreateTensorWithDataAsOrtValue: [
    49,
    'void *place, void *numbers, size_t bytes, int64_t *shape, size_t rank, int type, void *made',
  ],
  CreateMemoryInfo: [68, 'const char *name, int allocator, int device, int use, void *made'],
  AllocatorFree: [76, 'void *allocator, void *memory'],
  GetAllocatorWithDefaultOptions: [78, 'void *found'],
  AddSessionConfigEntry: [130, 'void *options, const char *key, const char *value'],
  RunWithBinding: [133, 'void *session, void *options, void *binding'],
  CreateIoBinding: [134, 'void *session, void *made'],
  BindInput: [136, 'void *binding, const char *name, void *value'],
  BindOutput: [137, 'void *binding, const char *name, void *value'],
  BindOutputToDevice: [138, 'void *binding, const char *name, void *place'],
  GetBoundOutputValues: [140, 'void *binding, void *allocator, void *values, void *count'],
  CreateArenaCfg: [156, 'size_t most, int strategy, int first, int dead, void *made'],
  UnregisterAllocator: [177, 'void *env, void *place'],
  SessionOptionsAppendExecutionProvider_CUDA_V2: [204, 'void *options, void *provider'],
  CreateCUDAProviderOptions: [205, 'void *made'],
  UpdateCUDAProviderOptions: [206, 'void *provider, const char **keys, const char **values, size_t count'],
  CreateAndRegisterAllocatorV2: [
    259,
    'void *env, const char *provider, void *place, void *arena, const char **keys, const char **values, size_t count',
  ],
  GetTensorSizeInBytes: [318, 'void *value, void *found'],
  Session_GetEpGraphAssignmentInfo: [407, 'void *session, void *found, void *count'],
  EpAssignedSubgraph_GetEpName: [408, 'void *subgraph, void *found'],
  EpAssignedSubgraph_GetNodes: [409, 'void *subgraph, void *found, void *count'],
  EpAssignedNode_GetName: [410, 'void *node, void *found'],
  EpAssignedNode_GetOperatorType: [412, 'void *node, void *found'],
} as const satisfies Record<string, readonly [place: number, takes: string]>

/** Those that give nothing and take one thing. */
const endings = {
  ReleaseEnv: 92,
  ReleaseMemoryInfo: 94,
  ReleaseSession: 95,
  ReleaseValue: 96,
  ReleaseSessionOptions: 100,
  ReleaseIoBinding: 135,
  ClearBoundInputs: 141,
  ClearBoundOutputs: 142,
  ReleaseArenaCfg: 157,
  ReleaseCUDAProviderOptions: 208,
} as const

const places = { GetErrorMessage: 2, ReleaseStatus: 93 } as const
const tableLength = 413

type Call = (...given: unknown[]) => unknown

interface Koffi {
  load(path: string, options?: { global?: boolean }): { func(declaration: string): Call }
  proto(declaration: string): unknown
  array(type: string, length: number): unknown
  decode: { (at: unknown, type: unknown): unknown; string(at: bigint): string }
}

/** Throws Unavailable where it does not load. */
export function loadKoffi(): Koffi {
  try {
    return createRequire(import.meta.url)('koffi') as Koffi
  } catch (cause) {
    const reason = `koffi does not load: ${(cause as Error).message.split('\n')[0]}`
    throw new Unavailable(reason, 'install it with the others: npm ci', { cause })
  }
}

type Library = ReturnType<Koffi['load']>

const libraries = new Map<string, Library>()

/**
 * A library, which stays loaded: it would go with the last that knows of it, and take its threads' code away. Where it
 * does not load the error names it, which koffi's own does not in every case.
 */
export function loaded(koffi: Koffi, file: string): Library {
  const known = libraries.get(file)
  if (known) return known
  try {
    const library = koffi.load(file)
    libraries.set(file, library)
    return library
  } catch (cause) {
    const said = (cause as Error).message.replace('Failed to load shared library: ', '')
    throw new Error(said.includes(basename(file)) ? said : `${file}: ${said}`, { cause })
  }
}

/** Prototypes have names, which are global. */
const prototypes = new Map<string, unknown>()

function prototype(koffi: Koffi, declaration: string): unknown {
  const found = prototypes.get(declaration) ?? koffi.proto(declaration)
  prototypes.set(declaration, found)
  return found
}

/** Addresses as numbers of 64 bits, which koffi gives as numbers where they are small. */
const addresses = (koffi: Koffi, at: unknown, count: number) =>
  Array.from(koffi.decode(at, koffi.array('uint64_t', count)) as ArrayLike<number | bigint>, BigInt)

/** The C API of one ONNX Runtime library. */
export class Api {
  /** Of the library. */
  readonly version: string
  private readonly koffi: Koffi
  private readonly calls = {} as Record<keyof typeof functions | keyof typeof endings, Call>
  private readonly message: Call
  private readonly releaseStatus: Call
  private readonly cell = new BigUint64Array(1)
  private readonly count = new BigUint64Array(1)

  /** Throws Unavailable where the library is older than what is asked for; what does not load throws as it does. */
  constructor(file: string) {
    this.koffi = loadKoffi()
    const base = loaded(this.koffi, file).func('void *OrtGetApiBase()')()
    const [getApi, getVersion] = addresses(this.koffi, base, 2)
    this.version = this.at(getVersion!, 'const char *GestaltOrtVersion()')() as string
    if (Number(this.version.split('.')[1]) < apiVersion)
      throw new Unavailable(`${file} is ONNX Runtime ${this.version}`, `install version 1.${apiVersion} or later`)
    const table = this.at(getApi!, 'void *GestaltOrtApi(uint32_t version)')(apiVersion)
    const all = addresses(this.koffi, table, tableLength)
    for (const [name, [place, takes]] of Object.entries(functions))
      this.calls[name as keyof typeof functions] = this.at(all[place]!, `void *GestaltOrt${name}(${takes})`)
    for (const [name, place] of Object.entries(endings))
      this.calls[name as keyof typeof endings] = this.at(all[place]!, `void GestaltOrt${name}(void *it)`)
    this.message = this.at(all[places.GetErrorMessage]!, 'const char *GestaltOrtGetErrorMessage(void *status)')
    this.releaseStatus = this.at(all[places.ReleaseStatus]!, 'void GestaltOrtReleaseStatus(void *status)')
  }

  private at(address: bigint, declaration: string): Call {
    return this.koffi.decode(address, prototype(this.koffi, declaration)) as Call
  }

  /** Calls a function that gives a status. Throws what it says where it is none of success. */
  do(name: keyof typeof functions, ...given: unknown[]): void {
    const status = this.calls[name](...given)
    if (!status) return
    const message = this.message(status) as string
    this.releaseStatus(status)
    throw new Error(message)
  }

  /** The same of a function whose last argument takes what it makes or finds. */
  make(name: keyof typeof functions, ...given: unknown[]): Handle {
    this.do(name, ...given, this.cell)
    return this.cell[0]!
  }

  /** The same of one whose last two take a list and its length. */
  list(name: keyof typeof functions, ...given: unknown[]): { at: Handle; handles: Handle[] } {
    this.do(name, ...given, this.cell, this.count)
    const at = this.cell[0]!
    const count = Number(this.count[0])
    return { at, handles: count === 0 ? [] : addresses(this.koffi, at, count) }
  }

  end(name: keyof typeof endings, handle: Handle): void {
    this.calls[name](handle)
  }

  /** The text at an address. */
  text(address: Handle): string {
    return this.koffi.decode.string(address)
  }
}
