// The process that tries engines: they are native libraries, and one that crashes takes only this process down.
import { chooseEngine } from '../engine/choose.ts'
import { answerWorker } from './child-life.ts'
import type { FromChild, Progress, ToEngineChild } from './messages.ts'

const tell = (progress: Progress) => process.send?.(progress)

async function tryEngines({ engine, skip, ...settings }: ToEngineChild): Promise<FromChild> {
  const choice = await chooseEngine(engine, {
    ...{ ...settings, skip },
    onTry: (name) => tell({ type: 'trying', engine: name }),
    onReject: (rejected) => tell({ type: 'rejected', rejected }),
  })
  return { type: 'engine', choice }
}

answerWorker(tryEngines)
