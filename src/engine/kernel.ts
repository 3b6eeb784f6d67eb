/** A tensor as a kernel sees it. */
export interface Info {
  dataId: object
  shape: number[]
  dtype: 'float32' | 'int32' | 'bool' | 'string' | 'complex64'
}

export type Inputs = Record<string, Info>
export type Attributes = Record<string, unknown>

/** A kernel on tensors in the heap of the wasm backend; the caller owns what it returns. */
export type Kernel = (inputs: Inputs, attributes: Attributes, heap: Heap) => Info

/** What a kernel of ours works with. Views of the heap die when it grows: take them after the last allocation. */
export interface Heap {
  allocate(shape: readonly number[], dtype?: 'float32' | 'int32'): Info
  floats(info: Info): Float32Array
  integers(info: Info): Int32Array
  /** Runs a kernel as the package has it, past our own. */
  stock(name: string, inputs: Inputs, attributes?: Attributes): Info
  share(info: Info, shape: readonly number[]): Info
  free(info: Info): void
}
