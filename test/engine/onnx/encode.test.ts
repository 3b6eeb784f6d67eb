import { InferenceSession, Tensor } from 'onnxruntime-node'
import { describe, expect, it } from 'vitest'
import type { Model } from '../../../src/engine/onnx/emitter.ts'
import { encodeModel } from '../../../src/engine/onnx/encode.ts'

/** One of each kind of attribute, and of each type of constant; the numbers are checked by computing. */
const model: Model = {
  inputs: [{ name: 'x', dtype: 'float32', shape: [2, 3] }],
  outputs: [
    { name: 'turned', dtype: 'float32', shape: [3, 2] },
    { name: 'steep', dtype: 'float32', shape: [2, 3] },
    { name: 'last', dtype: 'float32', shape: [2, 1] },
    { name: 'text', dtype: 'float32', shape: [3, 3] },
    { name: 'whole', dtype: 'int32', shape: [2] },
    { name: 'chosen', dtype: 'float32', shape: [2, 3] },
    { name: 'made', dtype: 'float32', shape: [1] },
    { name: 'product', dtype: 'float32', shape: [2, 2] },
  ],
  constants: [
    { name: 'from', dtype: 'int64', shape: [1], values: [-1] },
    { name: 'to', dtype: 'int64', shape: [1], values: [9007199254740991] },
    { name: 'axis', dtype: 'int64', shape: [1], values: [1] },
    { name: 'ints', dtype: 'int32', shape: [2], values: [-300, 2147483647] },
    { name: 'one', dtype: 'int32', shape: [], values: [0] },
    { name: 'which', dtype: 'bool', shape: [3], values: [1, 0, 1] },
    { name: 'zero', dtype: 'float32', shape: [], values: [0.5] },
  ],
  nodes: [
    { op: 'Transpose', inputs: ['x'], outputs: ['turned'], attributes: { perm: [1, 0] }, domain: '', name: 'a' },
    {
      op: 'LeakyRelu',
      inputs: ['x'],
      outputs: ['steep'],
      attributes: { alpha: { float: 0.25 } },
      domain: '',
      name: 'b',
    },
    { op: 'Slice', inputs: ['x', 'from', 'to', 'axis'], outputs: ['last'], attributes: {}, domain: '', name: 'c' },
    {
      op: 'Einsum',
      inputs: ['x', 'x'],
      outputs: ['text'],
      attributes: { equation: 'ij,ik->jk' },
      domain: '',
      name: 'd',
    },
    { op: 'Add', inputs: ['ints', 'one'], outputs: ['whole'], attributes: {}, domain: '', name: 'e' },
    { op: 'Where', inputs: ['which', 'x', 'zero'], outputs: ['chosen'], attributes: {}, domain: '', name: 'f' },
    {
      op: 'Constant',
      inputs: [],
      outputs: ['made'],
      attributes: { value: { tensor: { dtype: 'float32', shape: [1], values: [1.5] } } },
      domain: '',
      name: 'g',
    },
    {
      op: 'FusedMatMul',
      inputs: ['x', 'x'],
      outputs: ['product'],
      attributes: { transB: 1, transA: 0 },
      domain: 'com.microsoft',
      name: 'h',
    },
  ],
}

describe('an encoded model', () => {
  it('is read and computed by the published interface of the runtime', async () => {
    const session = await InferenceSession.create(encodeModel(model), { logSeverityLevel: 3 })
    expect(session.inputNames).toEqual(['x'])
    expect(session.outputNames).toEqual(model.outputs.map(({ name }) => name))
    expect(session.inputMetadata[0]).toMatchObject({ type: 'float32', shape: [2, 3] })
    const results = await session.run({ x: new Tensor('float32', Float32Array.of(1, -2, 3, -4, 5, -6), [2, 3]) })
    const values = Object.fromEntries(
      Object.entries(results).map(([name, { data }]) => [name, Array.from(data as never)]),
    )
    expect(values).toEqual({
      turned: [1, -4, -2, 5, 3, -6],
      steep: [1, -0.5, 3, -1, 5, -1.5],
      last: [3, -6],
      text: [17, -22, 27, -22, 29, -36, 27, -36, 45],
      whole: [-300, 2147483647],
      chosen: [1, 0.5, 3, -4, 0.5, -6],
      made: [1.5],
      product: [14, -32, -32, 77],
    })
    await session.release()
  })
})
