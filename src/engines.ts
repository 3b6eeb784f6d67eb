/** What can compute, the fastest first; `src/engine/candidates.ts` says how each starts. */
export const engines = ['webgpu', 'machine', 'onnx', 'tensorflow', 'wasm', 'cpu'] as const
