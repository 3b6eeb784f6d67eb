import { Damaged, NotFound } from '../errors.ts'
import type { ByteSource } from './dataset.ts'
import { nearestName } from './nearest-name.ts'

export const manifestVersion = 1

/** Smallest and largest of the images, in pixels. */
export interface ShapeStatistics {
  height: { least: number; most: number }
  width: { least: number; most: number }
  /** How many have one channel; the others have colours. */
  grey: number
}

/** What is known of a registered set without its index: enough for a plan and a list. */
export interface SetManifest {
  version: typeof manifestVersion
  name: string
  /** Of this set for ever: a set that is removed and added again has another. */
  id: string
  images: { train: number; test: number }
  /** Images without a label. */
  unlabelled: number
  /** By label. A name is the number itself where there are no others. */
  classes: { name: string; train: number; test: number }[]
  /** Videos or other sequences; 0: single images. */
  sequences: number
  shapes: ShapeStatistics
  /** Of all shards together. */
  bytes: number
  shards: number
  /** Where the index is: a path for a ByteSource. */
  index: { path: string; bytes: number; sha256: string }
}

/** Where the sets are, as a ByteSource names it. */
export const setsFolder = 'sets'

export const manifestPath = (name: string) => `${setsFolder}/${name}/manifest.json`

/** Letters, digits and single signs between them: part of a key and of an address. */
export const setNamePattern = '^[a-z0-9]+(?:[-_.][a-z0-9]+)*$'
export const longestSetName = 100

/** How many names an error lists. */
const mostListed = 20

async function unknownSet(name: string, bytes: ByteSource): Promise<NotFound> {
  const names: string[] = []
  // A set that is not finished, or on its way out, has no manifest.
  for await (const path of bytes.list?.(`${setsFolder}/`) ?? []) {
    const [, found] = /^sets\/([^/]+)\/manifest\.json$/.exec(path) ?? []
    if (found !== undefined) names.push(found)
  }
  names.sort()
  if (names.length === 0)
    return new NotFound(
      `no image set '${name}'; there are none yet`,
      `add it: gestalt dataset add ${name} --from FOLDER`,
    )
  const nearest = nearestName(name, names)
  const listed = names.length > mostListed ? `${names.slice(0, mostListed).join(', ')} and more` : names.join(', ')
  return new NotFound(
    `no image set '${name}'; there are: ${listed}${nearest === undefined ? '' : ` — did you mean '${nearest}'?`}`,
    'gestalt dataset list shows them, gestalt dataset add brings another',
  )
}

/** Throws NotFound, which names the sets that there are, or Damaged. */
export async function readManifest(name: string, bytes: ByteSource): Promise<SetManifest> {
  const path = manifestPath(name)
  if (!new RegExp(setNamePattern).test(name) || !(await bytes.stat(path))) throw await unknownSet(name, bytes)
  const text = new TextDecoder().decode(await bytes.read(path))
  let manifest: SetManifest | undefined
  try {
    manifest = JSON.parse(text) as SetManifest
  } catch (cause) {
    throw new Damaged(`${path} is no JSON`, 'restore it from a copy, or add the set again', { cause })
  }
  if (manifest.version !== manifestVersion)
    throw new Damaged(
      `${path} has version ${manifest.version}; this software reads ${manifestVersion}`,
      'update this one',
    )
  return manifest
}
