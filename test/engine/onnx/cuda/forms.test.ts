import { describe, expect, it } from 'vitest'
import { fitToCuda } from '../../../../src/engine/onnx/cuda/forms.ts'
import type { Constant, Model, Node } from '../../../../src/engine/onnx/emitter.ts'
import { operatorsOf } from './processor.ts'

const node = (op: string, inputs: string[], attributes: Node['attributes'] = {}): Node => ({
  ...{ op, inputs, outputs: ['y'], attributes, domain: '', name: `Kernel/${op}/0` },
})

const integers = (name: string, values: number[]): Constant => ({
  name,
  dtype: 'int64',
  shape: [values.length],
  values,
})

function fitted(one: Node, dtype: 'float32' | 'int32' | 'bool', constants: Constant[] = []) {
  const model: Model = { nodes: [one], inputs: [{ name: 'x', dtype, shape: [2, 2, 4, 4] }], outputs: [], constants }
  const made = fitToCuda(model)
  const values = (name: string | undefined) => Array.from(made.constants.find((one) => one.name === name)?.values ?? [])
  return { operators: operatorsOf(made), nodes: made.nodes, values }
}

const texts = ({ operators }: ReturnType<typeof fitted>) => operators.map(({ text }) => text)

describe('a graph that is fitted to CUDA', () => {
  it('stays as it is where there are kernels', () => {
    const add = node('Add', ['x', 'x'])
    expect(fitted(add, 'int32').nodes).toEqual([add])
  })

  it.each([
    ['Clip', 'int32', ['Cast int32', 'Cast int32', 'Cast int32', 'Clip double', 'Cast double']],
    ['MatMul', 'int32', ['Cast int32', 'Cast int32', 'MatMul double', 'Cast double']],
    ['ArgMax', 'int32', ['Cast int32', 'ArgMax double']],
    ['Tile', 'bool', ['Cast bool', 'Tile int32', 'Cast int32']],
  ] as const)('computes %s of %s in a wider type', (op, dtype, expected) => {
    const inputs = { Clip: ['x', 'x', 'x'], MatMul: ['x', 'x'], ArgMax: ['x'], Tile: ['x', 'n'] }[op]
    const made = fitted(node(op, inputs), dtype, [integers('n', [1, 1, 1, 2])])
    expect(texts(made)).toEqual(expected)
    expect(made.operators.filter(({ lacks }) => lacks)).toEqual([])
    expect(made.nodes.at(-1)!.outputs).toEqual(['y'])
  })

  it('leaves to the processor what there is no kernel for in any type, and says so', () => {
    const made = fitted(node('Atan', ['x']), 'float32')
    expect(made.operators).toEqual([{ text: 'Atan float32', lacks: true }])
  })

  it('pads images beforehand where a window has more padding after than before', () => {
    const made = fitted(node('Conv', ['x', 'x'], { pads: [1, 0, 2, 1] }), 'float32')
    expect(texts(made)).toEqual(['Pad float32', 'Conv float32'])
    expect(made.values(made.nodes[0]!.inputs[1])).toEqual([0, 0, 0, 0, 0, 0, 1, 1])
    expect(made.nodes[1]!.attributes.pads).toEqual([1, 0, 1, 0])
    const pool = fitted(node('MaxPool', ['x'], { pads: [0, 0, 1, 1] }), 'float32')
    expect(pool.values(pool.nodes[0]!.inputs[2])).toEqual([-3.4028234663852886e38])
    expect(texts(fitted(node('Conv', ['x', 'x'], { pads: [1, 1, 1, 1] }), 'float32'))).toEqual(['Conv float32'])
  })

  it('cuts by a slice where padding is negative, and pads what is left', () => {
    const cut = fitted(node('Pad', ['x', 'n']), 'float32', [integers('n', [0, 0, -1, 0, 0, 0, 0, -2])])
    expect(texts(cut)).toEqual(['Slice float32'])
    expect(cut.values(cut.nodes[0]!.inputs[1])).toEqual([0, 0, 1, 0])
    expect(cut.values(cut.nodes[0]!.inputs[2])).toEqual([2147483647, 2147483647, 2147483647, -2])
    const both = fitted(node('Pad', ['x', 'n']), 'int32', [integers('n', [0, 0, -1, 0, 0, 0, 3, 0])])
    expect(texts(both)).toEqual(['Slice int32', 'Cast int32', 'Pad double', 'Cast double'])
    expect(both.values(both.nodes[2]!.inputs[1])).toEqual([0, 0, 0, 0, 0, 0, 3, 0])
  })
})
