import { builtIn } from '../../../src/engine/native/build.ts'
import { builtFolder, startNative } from '../../../src/engine/native.ts'

/** Where the engine has not been built, its tests are skipped; in CI they are not. */
export const isMissing = !builtIn(builtFolder) && !process.env.CI

/** TensorFlow's own library computes for the whole process. */
export async function startTensorFlow(): Promise<void> {
  await startNative({ threads: 2, device: 'CPU' }, builtFolder)
}
