import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Config } from '../config.ts'
import type { Output } from './output.ts'
import type { AddSetOptions } from './sets.ts'

type Action = <A extends unknown[]>(
  run: (config: Config, output: Output, ...rest: A) => Promise<number>,
) => (...all: unknown[]) => Promise<void>

function pixels(text: string): number {
  if (!/^\d+$/.test(text) || Number(text) < 4 || Number(text) > 1024)
    throw new InvalidArgumentError('give a whole number from 4 to 1024')
  return Number(text)
}

const help = `
What --from may name:
  a folder             class/image.jpg, or images without labels; train/ and test/ or val/ above them are splits
  a folder of videos   video/frame.jpg or class/video/frame.jpg, with --layout frames
  a list               lines path,label or path,label,split in a file that ends in .csv or .txt
  archives             one file.tar, or a folder of them: WebDataset, or as --layout says
docs/datasets.md has more.`

function addCommand(datasets: Command, action: Action): void {
  datasets
    .command('add')
    .argument('<name>', "a name for your images, or one of Gestalt's own such as fashion-mnist")
    .option(
      '--from <path>',
      'where the images are; for a dataset of our own a folder, or the URL that its files are below',
    )
    .option('--prefix <prefix>', 'tar shards that lie in the object store already, by what their keys start with')
    .addOption(
      new Option('--layout <layout>', 'how files say what they are').choices([
        'webdataset',
        'folders',
        'flat',
        'frames',
      ]),
    )
    .addOption(
      new Option('--check <what>', 'what is read of each image before it is taken').choices(['pixels', 'header']),
    )
    .option('--skip-damaged', 'leave damaged images out instead of refusing the set')
    .option('--side <pixels>', 'keep the images decoded, as squares of this side: read the fastest', pixels)
    .addOption(new Option('--channels <number>', 'of these squares').choices(['1', '3']))
    .addOption(new Option('--fit <how>', 'how images become squares').choices(['crop', 'stretch']))
    .description('add images of your own through the server, or the files of a dataset that we know')
    .addHelpText('after', help)
    .action(
      action(async (config, output, name: string, options: AddSetOptions) => {
        const { addDataset } = await import('./dataset.ts')
        return addDataset(config, output, name, options)
      }),
    )
}

/** `gestalt dataset ...` */
export function addDatasetCommands(program: Command, action: Action): void {
  const datasets = program.command('dataset').description('the datasets of this installation')
  addCommand(datasets, action)
  datasets
    .command('list')
    .description('the sets of images that were added')
    .action(action(async (config, output) => (await import('./sets.ts')).listSets(config, output)))
  const named = (command: string, description: string) =>
    datasets.command(command).argument('<name>', 'the name of a set').description(description)
  named('show', 'images, classes, sizes of a set').action(
    action(async (config, output, name: string) => (await import('./sets.ts')).showSet(config, output, name)),
  )
  named('preview', 'some images of a set on one PNG')
    .option('--out <file>', 'where to; NAME.png where absent')
    .action(
      action(async (config, output, name: string, options: { out?: string }) =>
        (await import('./sets.ts')).previewSet(config, output, name, options.out),
      ),
    )
  named('verify', 'read a set again and compare it with its SHA-256 digests; exits 1 where it differs').action(
    action(async (config, output, name: string) => (await import('./sets.ts')).verifySet(config, output, name)),
  )
  named('remove', 'remove a set that no run wants to read any more').action(
    action(async (config, output, name: string) => (await import('./sets.ts')).removeSet(config, output, name)),
  )
}
