import { gibibytes, TooLarge } from '../../errors.ts'
import { type Largest, largestOfAll, tf } from '../../tf.ts'
import { CompiledGraphs } from './compiled.ts'
import type { Compiled, Computer } from './computer.ts'
import { type Plan, planFor } from './keys.ts'
import { type Dtype, fail, isComputed, type Numbers, type Operation, own, refuseFailed, Value } from './record.ts'
import { sameShape, sizeOf } from './shape.ts'
import { noCounts, type RecordingStats } from './stats.ts'
import type { Attributes, Tracer } from './trace.ts'
import { setAsideUpdates, type Update } from './updates.ts'

/** What one tensor's id stands for: a value, or what only the fallback understands. */
interface Entry {
  value?: Value
  raw?: tf.BackendValues
  references: number
}

interface Result {
  shape: number[]
  dtype: Dtype
}

/** What is to be computed at once: the values asked for, by a graph and then by updates. */
interface Work {
  asked: Value[]
  /** What the graph makes: what is asked for but the updates, and the rows of these. */
  roots: Value[]
  updates: Update[]
  plan: Plan
}

export const graphLimit = 32

/** So many operations without anybody reading a number are computed at once, lest what is recorded grow forever. */
export const recordLimit = 10_000

export const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array } as const

function isRecorded(dtype: tf.DataType): dtype is Dtype {
  return dtype === 'float32' || dtype === 'int32' || dtype === 'bool'
}

/** The values as they are computed with. They are not copied where they are of the right type. */
function numbersOf(values: tf.BackendValues | null, size: number, dtype: Dtype): Numbers {
  const Numbers = arrays[dtype]
  if (values === null || values === undefined) return new Numbers(size)
  return values instanceof Numbers ? values : Numbers.from(values as ArrayLike<number>)
}

/** What to do where a tensor may have no more than a share of its rows, which are mostly those of a batch. */
function cureFor(rows: number, share: number): string {
  const most = Math.floor(rows * share)
  const general = 'take smaller batches, smaller images or a smaller net'
  return most < 1 ? general : `${general}; where ${rows} is the batch, one of at most ${most} would fit`
}

function refuseLarge(shape: readonly number[], dtype: Dtype, kernel: string, most = largestOfAll.bytes): void {
  const bytes = sizeOf(shape) * (dtype === 'bool' ? 1 : 4)
  if (bytes <= most) return
  throw new TooLarge(
    `${kernel} would make a tensor [${shape.join(', ')}] of ${gibibytes(bytes)}; the engine takes up to ${gibibytes(most)}`,
    cureFor(shape[0] ?? 0, most / bytes),
  )
}

/**
 * The tfjs backend that records kernels and lets a computer compute them. Nothing is computed until a number is read;
 * then all that is recorded and still referred to is computed in one graph, which is compiled only if no graph of its
 * structure is known. Arrays handed to tensors are read only then: they must not be changed while a tensor needs them.
 */
export class RecordingBackend extends tf.KernelBackend implements Tracer {
  readonly data: tf.DataStorage<Entry>
  counts = noCounts()
  private recorded: Operation[] = []
  private readonly pending = new Map<Entry, Value>()
  private readonly computer: Computer
  private readonly graphs = new CompiledGraphs(graphLimit)
  private flight: Promise<void> = Promise.resolve()
  /** Blocks of values that no tensor stands for any longer; what is recorded may need them still. */
  private readonly dropped: Value[] = []
  private readonly onFallback: (kernel: string) => void
  private readonly warned = new Set<string>()

  constructor(computer: Computer, onFallback: (kernel: string) => void) {
    super()
    this.computer = computer
    this.onFallback = onFallback
    this.data = new tf.DataStorage(this, tf.engine())
  }

  get synchronous(): boolean {
    return this.computer.synchronous
  }

  get largest(): Largest {
    return this.computer.largest ?? largestOfAll
  }

  stats(): RecordingStats {
    return { ...this.counts, fallbacks: { ...this.counts.fallbacks }, sessions: this.graphs.count }
  }

  resetStats(): void {
    this.counts = noCounts()
  }

  countFallback(kernel: string): void {
    const { fallbacks } = this.counts
    fallbacks[kernel] = (fallbacks[kernel] ?? 0) + 1
    if (this.warned.has(kernel)) return
    this.warned.add(kernel)
    this.onFallback(kernel)
  }

  override floatPrecision(): 32 {
    return 32
  }

  override epsilon(): number {
    return 1e-7
  }

  override numDataIds(): number {
    return this.data.numDataIds()
  }

  override memory() {
    return { unreliable: true, reasons: ['what recorded operations refer to is freed when they have run'] }
  }

  override timerAvailable(): boolean {
    return true
  }

  override async time(compute: () => void) {
    const started = performance.now()
    compute()
    if (this.computer.synchronous) this.flush()
    else await this.flushLater()
    return { kernelMs: performance.now() - started }
  }

  override refCount(dataId: object): number {
    return this.data.has(dataId) ? this.data.get(dataId).references : 0
  }

  override incRef(dataId: object): void {
    this.data.get(dataId).references++
  }

  override disposeData(dataId: object, force = false): boolean {
    if (!this.data.has(dataId)) return true
    const entry = this.data.get(dataId)
    entry.references--
    if (!force && entry.references > 0) return false
    this.pending.delete(entry)
    this.data.delete(dataId)
    if (entry.value) entry.value.alive = false
    if (this.computer.release && entry.value) this.dropped.push(entry.value)
    return true
  }

  override write(values: tf.BackendValues, shape: number[], dtype: tf.DataType): object {
    const dataId = {}
    this.data.set(dataId, this.entry(values, shape, dtype, 1))
    return dataId
  }

  override move(dataId: object, values: tf.BackendValues, shape: number[], dtype: tf.DataType, references: number) {
    this.data.set(dataId, this.entry(values, shape, dtype, references))
  }

  private entry(values: tf.BackendValues, shape: readonly number[], dtype: tf.DataType, references: number): Entry {
    if (!isRecorded(dtype)) return { raw: values, references }
    const size = sizeOf(shape)
    refuseLarge(shape, dtype, 'writing')
    return { value: new Value(shape, dtype, numbersOf(values, size, dtype)), references }
  }

  override readSync(dataId: object): tf.BackendValues {
    const { value, raw } = this.data.get(dataId)
    if (!value) return raw!
    if (!isComputed(value)) this.flush()
    refuseFailed(value)
    if (value.data || !value.block) return own(value)
    if (!this.computer.fetchNow) throw this.computer.refusal()
    return this.computer.fetchNow(value)
  }

  override async read(dataId: object): Promise<tf.BackendValues> {
    const { value, raw } = this.data.get(dataId)
    if (!value) return raw!
    if (this.computer.synchronous) return this.readSync(dataId)
    // What fails may be another graph's: what this value failed of, it says itself.
    if (!isComputed(value)) await this.flushLater().catch(() => {})
    refuseFailed(value)
    return value.data || !value.block ? own(value) : await this.computer.fetch!(value)
  }

  operation(
    kind: string,
    inputs: readonly tf.TensorInfo[],
    outputs: readonly { shape: readonly number[]; dtype: tf.DataType }[],
    attributes?: Attributes,
  ): tf.TensorInfo[] {
    const count = inputs.length
    const values = new Array<Value>(count)
    const shapes = new Array<readonly number[]>(count)
    for (let i = 0; i < count; i++) {
      const { dataId, shape } = inputs[i]!
      const value = this.data.get(dataId).value!
      values[i] = value
      shapes[i] = sameShape(shape, value.shape) ? value.shape : shape
    }
    const operation: Operation = { kind, attributes, inputs: values, shapes, outputs: [], needed: false }
    const made = new Array<tf.TensorInfo>(outputs.length)
    for (let i = 0; i < outputs.length; i++) made[i] = this.result(operation, outputs[i] as Result, i)
    // Nothing has to be computed for nothing.
    if (operation.outputs.length > 0) this.recorded.push(operation)
    if (this.recorded.length >= recordLimit) this.endStep()
    return made
  }

  private result(operation: Operation, { shape, dtype }: Result, i: number): tf.TensorInfo {
    const size = sizeOf(shape)
    if (size === 0) return this.leaf(new arrays[dtype](0), shape, dtype)
    refuseLarge(shape, dtype, operation.kind, this.computer.largestResult)
    const value = new Value(shape, dtype, undefined, operation, i)
    operation.outputs.push(value)
    const dataId = {}
    const entry = { value, references: 1 }
    this.data.set(dataId, entry)
    this.pending.set(entry, value)
    return { dataId, shape, dtype }
  }

  view(x: tf.TensorInfo, shape: readonly number[]): tf.TensorInfo {
    this.incRef(x.dataId)
    return { dataId: x.dataId, shape: shape as number[], dtype: x.dtype }
  }

  leaf(values: Numbers, shape: readonly number[], dtype: tf.DataType): tf.TensorInfo {
    return { dataId: this.write(values, shape as number[], dtype), shape: shape as number[], dtype }
  }

  numbers(x: tf.TensorInfo): Numbers | undefined {
    const { value } = this.data.get(x.dataId)
    return value?.data && own(value)
  }

  release(x: tf.TensorInfo): void {
    this.disposeData(x.dataId)
  }

  /** Computes all that is recorded and still referred to. */
  flush(): void {
    if (!this.computer.synchronous) throw this.computer.refusal()
    const { asked, roots, updates, plan } = this.take()
    if (asked.length === 0) return
    try {
      if (roots.length > 0) {
        const compiled = this.graphs.find(plan.key) ?? this.keep(plan.key, this.compile(plan, roots) as Compiled)
        const started = performance.now()
        compiled.run(plan.leaves, roots)
        this.count(compiled, started)
      }
      for (const update of updates) this.computer.putRows!(update)
    } catch (error) {
      fail([...asked, ...roots], error)
    } finally {
      this.giveBack()
    }
  }

  private count({ kind }: Compiled, started: number): void {
    this.counts.runs++
    if (kind === 'program') this.counts.programRuns++
    this.counts.runMilliseconds += performance.now() - started
  }

  /** What no tensor stands for any longer, and nothing recorded needs. */
  private giveBack(dropped: readonly Value[] = this.dropped.splice(0)): void {
    for (const { block } of dropped) if (block) this.computer.release!(block)
  }

  /** Computes what is recorded, within the call or from now on; what fails later is told to whoever reads it. */
  endStep(): void {
    if (this.computer.synchronous) this.flush()
    else this.flushLater().catch(() => {})
  }

  /** The same where the computer gives promises, one graph after the other. */
  private flushLater(): Promise<void> {
    const work = this.take()
    if (work.asked.length === 0) return this.flight
    // What was dropped until now is needed by this graph and those before it only.
    const dropped = this.dropped.splice(0)
    this.flight = this.flight
      .catch(() => {})
      .then(() => this.computeLater(work))
      .finally(() => this.giveBack(dropped))
    return this.flight
  }

  private async computeLater({ asked, roots, updates, plan }: Work): Promise<void> {
    try {
      if (roots.length > 0) {
        const compiled = this.graphs.find(plan.key) ?? this.keep(plan.key, await this.compile(plan, roots))
        const started = performance.now()
        await compiled.run(plan.leaves, roots)
        this.count(compiled, started)
      }
      for (const update of updates) await this.computer.putRows!(update)
    } catch (error) {
      fail([...asked, ...roots], error)
    }
  }

  override dispose(): void {
    this.graphs.close()
    this.computer.close?.()
  }

  private take(): Work {
    const started = performance.now()
    const asked = [...this.pending.values()]
    const { recorded } = this
    this.recorded = []
    this.pending.clear()
    const apart = this.computer.putRows ? setAsideUpdates(asked, recorded) : { roots: asked, updates: [] }
    const plan = planFor(recorded, apart.roots)
    // What is recorded from here on takes them as leaves, whose numbers are there when it is computed.
    for (const value of asked) value.operation = undefined
    for (const root of apart.roots) root.operation = undefined
    this.counts.traceMilliseconds += performance.now() - started
    return { asked, ...apart, plan }
  }

  private compile(plan: Plan, roots: readonly Value[]): Compiled | Promise<Compiled> {
    const started = performance.now()
    const made = this.computer.compile(plan, roots)
    const finish = (compiled: Compiled) => {
      this.counts.compiles++
      this.counts.compileMilliseconds += performance.now() - started
      return compiled
    }
    return made instanceof Promise ? made.then(finish) : finish(made)
  }

  /** All that the values need, as a graph that is not computed; the recording begins anew. */
  planOf(roots: readonly Value[]): Plan {
    const { recorded } = this
    this.recorded = []
    return planFor(recorded, roots)
  }

  private keep(key: string, compiled: Compiled): Compiled {
    this.graphs.keep(key, compiled)
    return compiled
  }
}
