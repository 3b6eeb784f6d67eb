import { createHash } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { imageChecks } from '../data/inspection.ts'
import type { IntakeReport } from '../data/set-intake.ts'
import { longestSetName, setNamePattern } from '../data/set-manifest.ts'
import { layouts } from '../data/set-samples.ts'
import { InvalidDefinition } from '../errors.ts'
import type { Added, AddRequest, ImageSet } from '../store/image-sets.ts'
import type { Sources } from '../store/set-adding.ts'
import { Refused } from './failures.ts'
import type { Parts } from './parts.ts'

/** How a set is added, beside where its images come from. */
export const addingParameters = {
  name: Type.String({
    minLength: 1,
    maxLength: longestSetName,
    pattern: setNamePattern,
    description: 'Small letters and digits, with - _ or . between them.',
  }),
  layout: Type.Enum([...layouts], {
    default: 'webdataset',
    description:
      'How the files of the archive say what they are: by .cls or .json beside them (webdataset), by folder (folders: [train|test/]class/..., frames: [train|test/][class/]video/...), or not at all (flat).',
  }),
  check: Type.Enum([...imageChecks], {
    default: 'pixels',
    description:
      'What is read of each image before it is taken: all of it, or its header, which is several times faster.',
  }),
  skipDamaged: Type.Boolean({ default: false, description: 'Leave damaged images out instead of refusing the set.' }),
}

/** Only for what is packed anew. */
export const preparingParameters = {
  side: Type.Optional(
    Type.Integer({
      minimum: 4,
      maximum: 1024,
      description: 'Decode the images once and keep them as squares of so many pixels, which are read the fastest.',
    }),
  ),
  channels: Type.Optional(
    Type.Union([Type.Literal(1), Type.Literal(3)], { description: 'Of those: 1 is grey; 3, or absent, is colour.' }),
  ),
  fit: Type.Optional(
    Type.Enum(['crop', 'stretch'], { description: 'How they become squares: cut, as where absent, or stretched.' }),
  ),
}

export const prefixParameter = Type.String({
  minLength: 1,
  maxLength: 900,
  pattern: "^(?!runs/|check/|datasets/sets/)[A-Za-z0-9!_.()'*=-]+(/[A-Za-z0-9!_.()'*=-]*)*$",
  description: 'What the keys of the shards start with, in the object store of this installation; they stay there.',
})

type Adding = Static<ReturnType<typeof addingType>>
const addingType = () => Type.Object(addingParameters)
type Preparing = Static<ReturnType<typeof preparingType>>
const preparingType = () => Type.Object(preparingParameters)

export const setSummarySchema = Type.Object({
  id: Type.String({ format: 'uuid' }),
  name: Type.String(),
  createdAt: Type.String({ format: 'date-time' }),
  images: Type.Object({ train: Type.Integer(), test: Type.Integer() }),
  unlabelled: Type.Integer({ description: 'Images without a label.' }),
  classCount: Type.Integer(),
  sequences: Type.Integer({ description: 'Videos; 0: single images.' }),
  shapes: Type.Unknown({ description: 'The least and most height and width in pixels, and how many are grey.' }),
  bytes: Type.Integer({ description: 'Of all shards.' }),
  shards: Type.Integer(),
})

export const setSchema = Type.Object({
  ...setSummarySchema.properties,
  classes: Type.Array(Type.Object({ name: Type.String(), train: Type.Integer(), test: Type.Integer() }), {
    description: 'By label.',
  }),
})

/** Without its classes, of which there may be thousands. */
export function setSummary({ id, name, createdAt, manifest }: ImageSet) {
  const { images, unlabelled, classes, sequences, shapes, bytes, shards } = manifest
  const classCount = classes.length
  return { id, name, createdAt, images, unlabelled, classCount, sequences, shapes, bytes, shards }
}

export function setResource(set: ImageSet) {
  return { ...setSummary(set), classes: set.manifest.classes }
}

export const addedSchema = Type.Object({
  ...setSchema.properties,
  skipped: Type.Optional(
    Type.Object({
      count: Type.Integer({ description: 'Damaged images that were left out.' }),
      first: Type.Array(Type.Object({ name: Type.String(), reason: Type.String() })),
    }),
  ),
  passedOver: Type.Optional(
    Type.Record(Type.String(), Type.Integer(), {
      description: 'Files that are neither images nor labels, by extension.',
    }),
  ),
})

export function addedResource(set: ImageSet, report: IntakeReport | undefined) {
  return { ...setResource(set), ...(report ? { skipped: report.damaged, passedOver: report.passedOver } : {}) }
}

/** The same request is one with the same words; the bytes of an upload are not compared. */
function fingerprintOf(asked: object): string {
  const words = Object.entries(asked).sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256')
    .update(`image set ${JSON.stringify(words)}`)
    .digest('hex')
}

/** Adds a set as it was asked for. Throws Refused (422) where the idempotency key was used for something else. */
export async function addSet(
  { sets }: Parts,
  asked: Adding & Partial<Preparing> & { prefix?: string },
  archives: Sources['archives'],
  key: string | undefined,
): Promise<Exclude<Added, { mismatch: true }>> {
  const { name, layout, check, skipDamaged, side, channels, fit, prefix } = asked
  if (key !== undefined && !/^[\x21-\x7e]{1,255}$/.test(key))
    throw new InvalidDefinition(
      [{ pointer: '/idempotency-key', detail: 'is not 1 to 255 visible ASCII characters' }],
      'the request',
    )
  if (side === undefined && (channels !== undefined || fit !== undefined))
    throw new InvalidDefinition(
      [{ pointer: '/side', detail: 'is missing: channels and fit say how images become squares of that side' }],
      'the request',
    )
  const request: AddRequest = {
    ...{ name, layout, check, skipDamaged },
    sources: prefix === undefined ? { archives: archives! } : { prefix },
    prepared: side === undefined ? undefined : { side, channels: channels ?? 3, fit: fit ?? 'crop' },
    idempotency: key === undefined ? undefined : { key, fingerprint: fingerprintOf(asked) },
  }
  const added = await sets.add(request)
  if (!added.mismatch) return added
  throw new Refused(
    422,
    'key-reused',
    `the key '${key}' was used for something else`,
    'send the same request again, or use a new key',
  )
}
