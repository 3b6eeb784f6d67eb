import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Config } from '../config.ts'
import type { ByteSource } from '../data/dataset.ts'
import { type KnownFile, knownFiles, verifyFile } from '../data/known-files.ts'
import { InvalidDefinition, NotFound, Unavailable } from '../errors.ts'
import { datasetBytes } from '../store/dataset-bytes.ts'
import { openObjects } from '../store/open-objects.ts'
import { type Output, size } from './output.ts'
import { type AddSetOptions, addSet } from './sets.ts'

/** Where this installation reads datasets from. */
export function openDatasetBytes(config: Config): ByteSource {
  return datasetBytes(openObjects(config), config.datasetFolders)
}

/** A file of a mirror is a few MB and arrives within minutes, or the mirror is down. */
const downloadMilliseconds = 600_000

async function fetchFile(from: string, name: string): Promise<Uint8Array> {
  if (!/^https?:\/\//.test(from))
    return readFile(join(from, name)).catch((cause: unknown) => {
      throw new NotFound(
        `there is no readable ${join(from, name)}`,
        'name the folder that holds the files of the dataset',
        { cause },
      )
    })
  const url = `${from.replace(/\/$/, '')}/${name}`
  const response = await fetch(url, { signal: AbortSignal.timeout(downloadMilliseconds) }).catch((cause: unknown) => {
    throw new Unavailable(
      `${url} cannot be fetched`,
      'check the address, or download the files and name their folder',
      { cause },
    )
  })
  if (!response.ok)
    throw new NotFound(
      `${url} answers ${response.status}`,
      'check the address: the files are looked for right below it',
    )
  return new Uint8Array(await response.arrayBuffer())
}

/**
 * Verifies the files of a dataset that is known here and puts them into the object store, where every process finds
 * them. Nothing is kept unless all of them are right. Returns the exit code.
 */
async function addKnown(
  config: Config,
  output: Output,
  name: string,
  files: readonly KnownFile[],
  from: string,
): Promise<number> {
  const verified: { file: KnownFile; bytes: Uint8Array }[] = []
  for (const file of files) {
    const bytes = await fetchFile(from, file.name)
    verifyFile(file.name, bytes, file)
    output.say(`verified ${file.name}, ${size(bytes.length)}`)
    verified.push({ file, bytes })
  }
  const objects = openObjects(config)
  for (const { file, bytes } of verified)
    await objects.put(`datasets/${name}/${file.name}`, bytes, { type: 'application/gzip' })
  output.result({ dataset: name, files: files.length }, () => `dataset ${name} is ready`)
  return 0
}

/** Adds the files of a dataset that is known here, or a set of one's own images through the server. */
export async function addDataset(
  config: Config,
  output: Output,
  name: string,
  options: AddSetOptions,
): Promise<number> {
  const known = (knownFiles as Record<string, readonly KnownFile[]>)[name]
  const { from, prefix } = options
  if ((from === undefined) === (prefix === undefined))
    throw new InvalidDefinition(
      [{ pointer: '/from', detail: 'give either --from or --prefix: where the images are' }],
      'the command',
    )
  if (!known) return addSet(config, output, name, options)
  if (from === undefined)
    throw new InvalidDefinition(
      [{ pointer: '/from', detail: `is missing: where the files of ${name} are` }],
      'the command',
    )
  return addKnown(config, output, name, known, from)
}
