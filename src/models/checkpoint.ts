/** A tensor outside any backend, row-major. */
export interface StoredTensor {
  dtype: 'F32' | 'F16' | 'I32' | 'I64' | 'U8'
  shape: readonly number[]
  data: Float32Array | Uint16Array | Int32Array | BigInt64Array | Uint8Array
}

/**
 * Everything a run needs to go on as if it had never stopped. Tensor names start with `weights/`, `memory/` or
 * `optimizer/`; random numbers need no state, since they come from (seed, step).
 */
export interface Checkpoint {
  /** Steps taken. */
  step: number
  tensors: Record<string, StoredTensor>
  /** Facts about its making: seed, method, net, engine, definition hash, the data cursor. */
  meta: Record<string, string>
}
