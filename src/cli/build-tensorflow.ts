import { type Config, childEnvironment } from '../config.ts'
import { describeMake, type EngineChoice } from '../engine/choice.ts'
import { buildTensorFlow } from '../engine/native/build.ts'
import { builtFolder } from '../engine/native.ts'
import { Unavailable } from '../errors.ts'
import { probeEngine } from '../jobs/probe.ts'
import type { Output } from './output.ts'
import { openProgressBar } from './progress-bar.ts'

export interface BuildCommandOptions {
  cuda?: boolean
  again?: boolean
  python: string
  compiler: string
}

const silent = { info() {}, warn() {}, error() {} }

/** What a worker would compute on. */
async function tryEngine(threads: number): Promise<EngineChoice> {
  try {
    const environment = childEnvironment(threads)
    return await probeEngine({ engine: 'tensorflow', threads, environment, log: silent })
  } catch (cause) {
    // What the form for GPUs says of itself comes first.
    const reason = (cause as Error).message.split('tensorflow: ').at(-1)
    throw new Unavailable(`it is built and does not work here: ${reason}`, "use another engine: 'npx gestalt doctor'", {
      cause,
    })
  }
}

/** Builds TensorFlow's engine and has it pass the self-test in a process such as those that train. */
export async function buildCommand(config: Config, output: Output, options: BuildCommandOptions): Promise<number> {
  const { cuda = false, again = false, python, compiler } = options
  let progress = openProgressBar(process.stderr)
  let found: EngineChoice | undefined
  const built = await buildTensorFlow({
    ...{ cuda, again, folder: builtFolder, programs: { python, compiler, npm: 'npm' } },
    onStep(words) {
      progress.end()
      progress = openProgressBar(process.stderr)
      output.say(words)
    },
    // Only where a line can be rewritten in place: what pip and npm say is of no use afterwards.
    ...(process.stderr.isTTY ? { onLine: (line: string) => progress.show(`  ${line}`) } : {}),
    async check() {
      found = await tryEngine(config.engineThreads)
    },
  })
  const { engine, selfTestMilliseconds, rejected } = found!
  const noGpu = cuda && !engine.gpu ? (rejected[0] ?? null) : null
  const result = { folder: builtFolder, ...built, engine, selfTestMilliseconds, noGpu }
  output.result(result, () =>
    [
      `works: ${describeMake(engine)}, self-test ${Math.round(selfTestMilliseconds)} ms`,
      ...(noGpu ? [`without a GPU: ${noGpu.reason}; ${noGpu.cure}`] : []),
      `it lies in ${builtFolder}; GESTALT_ENGINE=tensorflow computes on it`,
    ].join('\n'),
  )
  return 0
}
