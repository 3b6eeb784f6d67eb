// The thread that hands pictures to the library which decodes them, so that the one that trains never does.
import { parentPort } from 'node:worker_threads'
import { GestaltError } from '../errors.ts'
import { type DecodingTask, decodeHere, type Refusal } from './decoding.ts'
import type { Answered, Asked } from './thread.ts'

async function answer({ id, task }: Asked<DecodingTask>): Promise<Answered<Uint8Array>> {
  try {
    // Into memory of its own, which can change hands.
    return { id, result: new Uint8Array(await decodeHere(task)) }
  } catch (error) {
    if (!(error instanceof GestaltError)) return { id, error }
    const { code, message, cure } = error
    return { id, error: { code, message, cure } satisfies Refusal }
  }
}

parentPort!.on('message', async (asked: Asked<DecodingTask>) => {
  const answered = await answer(asked)
  parentPort!.postMessage(answered, 'result' in answered ? [answered.result.buffer as ArrayBuffer] : [])
})
