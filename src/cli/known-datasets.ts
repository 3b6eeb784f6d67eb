import { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import type { Config } from '../config.ts'
import { arrayFiles, arrays } from '../data/arrays.ts'
import type { DatasetSource } from '../data/dataset.ts'
import { unzip } from '../data/idx.ts'
import { datasets } from '../data/index.ts'
import {
  type KnownArchive,
  type KnownFile,
  knownArchives,
  knownFiles,
  verifyFile,
  verifyPublished,
} from '../data/known-files.ts'
import { setNamePattern } from '../data/set-manifest.ts'
import { readTar } from '../data/tar.ts'
import { Damaged, InvalidDefinition, NotFound } from '../errors.ts'
import { asWritten, type Schema, withDefaults } from '../experiments/schema.ts'
import { openObjects } from '../store/open-objects.ts'
import { type Output, size } from './output.ts'
import {
  isUrl,
  type StagedFile,
  stagedBytes,
  stagedContent,
  stagedMd5,
  stagedMissing,
  stagedSize,
  stagedSource,
  stageFile,
} from './staged-files.ts'

type Staged = Map<string, StagedFile>

/** Arrays of one's own: their name follows. */
const ownArrays = 'arrays/'

const known: Record<string, readonly KnownFile[]> = knownFiles
const archives: Record<string, KnownArchive | undefined> = knownArchives

/** Whether the files of this dataset are added as they are; any other name is one of a set of pictures. */
export function isKnownDataset(name: string): boolean {
  return known[name] !== undefined || name.startsWith(ownArrays)
}

/** Throws Damaged where a staged file is not the known one. */
async function verifyStaged(file: KnownFile, staged: StagedFile): Promise<void> {
  if (file.name.endsWith('.gz') || file.sha256 !== undefined)
    return verifyFile(file.name, await stagedBytes(staged), file)
  const found = stagedSize(staged)
  if (found !== file.size)
    throw new Damaged(
      `${file.name} has ${found} bytes instead of ${file.size}`,
      'fetch it again from where it came from',
    )
  if (file.md5 !== undefined) verifyPublished(file.name, await stagedMd5(staged), file)
}

/** The files of a dataset out of the archive in which they are published, verified. */
export async function unpackArchive(
  archive: KnownArchive,
  files: readonly KnownFile[],
  packed: StagedFile,
): Promise<Staged> {
  verifyPublished(archive.name, await stagedMd5(packed), archive)
  const wanted = new Map(files.map((file) => [`${archive.folder}/${file.name}`, file]))
  const staged: Staged = new Map()
  const stream = Readable.from([await stagedBytes(packed)]).pipe(createGunzip())
  for await (const entry of readTar(archive.name, stream, { entries: 1000, fileBytes: 2 ** 30 })) {
    const file = wanted.get(entry.name)
    if (file) staged.set(file.name, { bytes: await entry.read() })
  }
  for (const file of files) {
    const found = staged.get(file.name)
    if (!found) throw new Damaged(`${archive.name} holds no ${file.name}`, 'fetch it again from where it came from')
    await verifyStaged(file, found)
  }
  return staged
}

/** The single files, from the folder or the one inside of it that the archive unpacks to. */
async function stageSingle(name: string, from: string, output: Output): Promise<Staged> {
  const archive = archives[name]
  const staged: Staged = new Map()
  for (const file of known[name]!) {
    const found = await stageFile(from, [file.name, ...(archive ? [`${archive.folder}/${file.name}`] : [])])
    if (!found) {
      const packed = archive && staged.size === 0 ? await stageFile(from, [archive.name]) : undefined
      if (!archive || !packed) throw stagedMissing(from, file.name)
      output.say(`unpacks ${archive.name}, ${size(stagedSize(packed))}`)
      return unpackArchive(archive, known[name]!, packed)
    }
    await verifyStaged(file, found)
    output.say(`verified ${file.name}, ${size(stagedSize(found))}`)
    staged.set(file.name, found)
  }
  return staged
}

/** Arrays of one's own: whichever of the files are there, IDX ones unpacked. */
async function stageArrays(from: string): Promise<Staged> {
  if (isUrl(from))
    throw new NotFound('arrays are added from a folder', 'download the files and name their folder with --from')
  const staged: Staged = new Map()
  for (const { images, labels } of Object.values(arrayFiles))
    for (const name of [...images, ...labels]) {
      const found = await stageFile(from, name.endsWith('.npy') ? [name] : [name, `${name}.gz`])
      if (!found) continue
      const packed = 'path' in found && found.path.endsWith('.gz')
      staged.set(name, packed ? { bytes: unzip(`${name}.gz`, await stagedBytes(found)) } : found)
    }
  if (staged.size === 0) throw stagedMissing(from, arrayFiles.train.images[0]!)
  return staged
}

/** Opens a dataset from its staged files. Throws Damaged, naming the file, where it does not read. */
async function openStaged(source: DatasetSource, given: object, staged: Staged, folder: string): Promise<string> {
  const files = new Map([...staged].map(([name, file]) => [`${folder}/${name}`, file]))
  const parameters = withDefaults(asWritten(source.parameters as Schema), given) as Record<string, unknown>
  const { train, test } = await source.open(parameters, stagedSource(files))
  return `${train.size} training and ${test.size} test images, ${train.imageShape.join(' x ')}, ${train.classes} classes`
}

/**
 * Verifies the files of a dataset that is known here, or arrays of one's own, and puts them into the object store,
 * where every process finds them. Nothing is kept unless all of them are right. Returns the exit code.
 */
export async function addKnown(config: Config, output: Output, name: string, from: string): Promise<number> {
  const own = name.startsWith(ownArrays)
  const staged = own ? await stageArrays(from) : await stageSingle(name, from, output)
  if (own) {
    const set = name.slice(ownArrays.length)
    if (!new RegExp(setNamePattern).test(set))
      throw new InvalidDefinition(
        [
          {
            pointer: '/name',
            detail: `is '${name}'; small letters and digits, with single signs between, are right after '${ownArrays}'`,
          },
        ],
        'the command',
      )
    output.say(`verified ${await openStaged(arrays as unknown as DatasetSource, { set }, staged, name)}`)
  } else if (known[name]!.some(({ sha256, md5 }) => sha256 === undefined && md5 === undefined)) {
    const source = datasets[name as keyof typeof datasets] as unknown as DatasetSource
    output.say(`verified by size and content: ${await openStaged(source, {}, staged, name)}`)
  }
  const objects = openObjects(config)
  for (const [file, content] of staged) {
    const type = file.endsWith('.gz') ? 'application/gzip' : 'application/octet-stream'
    await objects.put(`datasets/${name}/${file}`, stagedContent(content), { type })
  }
  output.result({ dataset: name, files: staged.size }, () => `dataset ${name} is ready`)
  return 0
}
