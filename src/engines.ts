/** What can compute, the fastest first; `src/engine/candidates.ts` says how each starts. */
export const engines = ['webgpu', 'onnx-cuda', 'machine', 'onnx', 'tensorflow', 'wasm', 'cpu'] as const
