import type { Config } from '../config.ts'
import type { ByteSource } from '../data/dataset.ts'
import { InvalidDefinition } from '../errors.ts'
import { datasetBytes } from '../store/dataset-bytes.ts'
import { openObjects } from '../store/open-objects.ts'
import { addKnown, isKnownDataset } from './known-datasets.ts'
import type { Output } from './output.ts'
import { type AddSetOptions, addSet } from './sets.ts'

/** Where this installation reads datasets from. */
export function openDatasetBytes(config: Config): ByteSource {
  return datasetBytes(openObjects(config), config.datasetFolders)
}

/** Adds the files of a dataset that is known here, or a set of one's own images through the server. */
export async function addDataset(
  config: Config,
  output: Output,
  name: string,
  options: AddSetOptions,
): Promise<number> {
  const { from, prefix } = options
  if ((from === undefined) === (prefix === undefined))
    throw new InvalidDefinition(
      [{ pointer: '/from', detail: 'give either --from or --prefix: where the images are' }],
      'the command',
    )
  if (!isKnownDataset(name)) return addSet(config, output, name, options)
  if (from === undefined)
    throw new InvalidDefinition(
      [{ pointer: '/from', detail: `is missing: where the files of ${name} are` }],
      'the command',
    )
  return addKnown(config, output, name, from)
}
