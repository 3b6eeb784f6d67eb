import type { Command } from 'commander'
import type { Config } from '../config.ts'
import type { BuildCommandOptions } from './build-tensorflow.ts'
import type { Output } from './output.ts'

type Action = <A extends unknown[]>(
  run: (config: Config, output: Output, ...rest: A) => Promise<number>,
) => (...all: unknown[]) => Promise<void>

/** `gestalt engine ...` */
export function addEngineCommands(program: Command, action: Action): void {
  program
    .command('engine')
    .description('engines that have to be built on the machine')
    .command('build-tensorflow')
    .option('--cuda', 'for NVIDIA GPUs, with the libraries of CUDA 12; it computes without a GPU as well')
    .option('--again', 'even where it is built already')
    .option('--python <program>', 'a Python 3 with pip', 'python3')
    .option('--compiler <program>', 'a C++ compiler that knows C++17', 'c++')
    .description("build the engine 'tensorflow' from TensorFlow's wheel on PyPI; docs/engines.md says what it needs")
    .action(
      action(async (config, output, options: BuildCommandOptions) => {
        const { buildCommand } = await import('./build-tensorflow.ts')
        return buildCommand(config, output, options)
      }),
    )
}
