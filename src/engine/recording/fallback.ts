import { tf } from '../../tf.ts'
import type { RecordingBackend } from './backend.ts'

type TensorInfo = tf.TensorInfo
type Inputs = tf.NamedTensorInfoMap

/** The cpu backend of tfjs, which has every kernel. Its type is not published. */
type Cpu = tf.KernelBackend

function carryIn(x: TensorInfo, from: RecordingBackend, cpu: Cpu): TensorInfo {
  const values = from.readSync(x.dataId)
  if (x.dtype !== 'complex64') return { ...x, dataId: cpu.write(values, x.shape, x.dtype) }
  const pairs = values as Float32Array
  const part = (offset: 0 | 1) => {
    const half = Float32Array.from({ length: pairs.length / 2 }, (_, i) => pairs[2 * i + offset]!)
    return { dataId: cpu.write(half, x.shape, 'float32'), shape: x.shape, dtype: 'float32' as const }
  }
  const inputs = { real: part(0), imag: part(1) }
  const made = tf.getKernel('Complex', 'cpu').kernelFunc({ inputs, attrs: {}, backend: cpu }) as TensorInfo
  for (const { dataId } of Object.values(inputs)) cpu.disposeData(dataId)
  return made
}

/** Computes a kernel on the cpu backend of tfjs: what it needs is computed first, and its results are leaves. */
export function runOnCpu(
  { kernelFunc }: tf.KernelConfig,
  inputs: Inputs,
  attributes: tf.NamedAttrMap,
  backend: RecordingBackend,
): TensorInfo | TensorInfo[] {
  const cpu = tf.engine().findBackend('cpu') as Cpu
  const carried: TensorInfo[] = []
  const carry = (x: TensorInfo) => {
    const info = carryIn(x, backend, cpu)
    carried.push(info)
    return info
  }
  const compute = () => {
    const operands: unknown = Array.isArray(inputs)
      ? inputs.map(carry)
      : Object.fromEntries(Object.entries(inputs).map(([name, x]) => [name, x && carry(x)]))
    return kernelFunc({ inputs: operands as Inputs, attrs: attributes, backend: cpu })
  }
  const bringBack = ({ dataId, shape, dtype }: TensorInfo): TensorInfo => {
    const values = cpu.readSync(dataId)
    cpu.disposeData(dataId)
    return { dataId: backend.write(values, shape, dtype), shape, dtype }
  }
  try {
    const made = compute()
    return Array.isArray(made) ? made.map(bringBack) : bringBack(made)
  } finally {
    for (const { dataId } of carried) cpu.disposeData(dataId, true)
  }
}
