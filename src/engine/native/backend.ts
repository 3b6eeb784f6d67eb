import type { tf } from '../../tf.ts'

/** A setting of an operation of TensorFlow, as the binding wants it. */
export interface Setting {
  name: string
  type: number
  value: unknown
}

/** What we use of the backend that the package registers. */
export interface NativeBackend {
  isUsingGpuDevice?: boolean
  binding?: {
    TF_Version?: string
    TF_ATTR_INT: number
    TF_ATTR_BOOL: number
    TF_ATTR_STRING: number
    TF_ATTR_TYPE: number
  }
  getDTypeInteger(dtype: tf.DataType): number
  executeSingleOutput(operation: string, settings: readonly Setting[], inputs: readonly tf.TensorInfo[]): tf.Tensor
}
