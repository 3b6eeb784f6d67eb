import type { Checkpoint } from '../checkpoint.ts'
import type { TrainingWindow } from './train.ts'

/** Saves while the training goes on, one checkpoint at a time; a failure is thrown at the next step. */
export function saveAside(window: Pick<TrainingWindow, 'save'>) {
  let saving: Promise<void> = Promise.resolve()
  let failure: { error: unknown } | undefined
  const rethrow = () => {
    if (failure) throw failure.error
  }
  return {
    rethrow,
    /** Resolves when the one before is saved and this one is on its way. */
    async begin(checkpoint: Checkpoint, options: { final: boolean }): Promise<void> {
      await saving
      rethrow()
      saving = (async () => window.save(checkpoint, options))().catch((error: unknown) => {
        failure = { error }
      })
    },
    /** Resolves when all is saved. */
    async finish(): Promise<void> {
      await saving
      rethrow()
    },
    /** The same where something else has failed already. */
    settle: (): Promise<void> => saving,
  }
}
