/** What went between JavaScript and the device, from the engine's start on. */
export interface Traffic {
  /** Tensors that were brought to the device, and their bytes. */
  uploads: number
  uploadedBytes: number
  /** Times that numbers were copied to where JavaScript sees them, of any number of tensors, and their bytes. */
  reads: number
  readBytes: number
  /** Lists of commands that the device was handed, and the shaders in those of graphs. */
  submissions: number
  dispatches: number
  /** Buffers that were made, for results or for reading. */
  buffers: number
}

export const noTraffic = (): Traffic => ({
  ...{ uploads: 0, uploadedBytes: 0, reads: 0, readBytes: 0 },
  ...{ submissions: 0, dispatches: 0, buffers: 0 },
})
