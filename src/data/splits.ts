import { type Static, type TObject, Type } from 'typebox'
import { type Fault, InvalidDefinition } from '../errors.ts'
import { type Corpus, checkIndex, type Dataset, type DatasetDescription, type DatasetSource } from './dataset.ts'
import { rollDice } from './dice.ts'
import { chooseStratified, labelsOf } from './stratified.ts'

/** A share of some images, or so many of them. */
const part = (ofWhat: string, share: string) =>
  Type.Union(
    [
      Type.Number({ exclusiveMinimum: 0, exclusiveMaximum: 1, description: `A share of the ${ofWhat}.` }),
      Type.Integer({ minimum: 1, description: `So many of the ${ofWhat}.` }),
    ],
    { description: share },
  )

const seed = (description: string) => Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 32 - 1, description }))

/** What every dataset can be asked for beside its own parameters. */
export const splitParameters = {
  labelled: Type.Optional(
    part(
      'training images',
      'How many training images keep their label, a share or a number: as even over the classes as their images are; the others have none. All where absent.',
    ),
  ),
  labelSeed: seed('Draws which images keep their label; 0 where absent.'),
  holdOut: Type.Optional(
    part(
      'training images',
      'Training images, a share or a number, that are not trained on and stand in for the test images: to choose settings without a look at those.',
    ),
  ),
  holdOutSeed: seed('Draws which images are held out; 0 where absent.'),
}

const splitKeys = Object.keys(splitParameters)

type Wanted = Static<ReturnType<typeof Type.Object<typeof splitParameters>>> & Record<string, unknown>

/** How many of `all` a share or a number is. */
function countOf(wanted: number, all: number): number {
  return wanted < 1 ? Math.round(wanted * all) : wanted
}

interface Parts {
  train: number
  heldOut: number
  labelled: number | undefined
}

/** Throws InvalidDefinition, pointers relative to the dataset, where the parts do not fit the images. */
function partSizes({ size, classes }: Pick<DatasetDescription, 'size' | 'classes'>, wanted: Wanted): Parts {
  const faults: Fault[] = []
  const fault = (pointer: string, detail: string) => faults.push({ pointer, detail })
  const heldOut = wanted.holdOut === undefined ? 0 : countOf(wanted.holdOut, size.train)
  if (wanted.holdOut !== undefined && (heldOut < 1 || heldOut >= size.train))
    fault('/holdOut', `is ${heldOut} of ${size.train} training images; from 1 to ${size.train - 1} can be held out`)
  if (wanted.holdOut === undefined && size.test === 0)
    fault('/holdOut', 'is missing: there are no test images, so some of the training images must stand in for them')
  if (wanted.holdOut !== undefined && wanted.testLimit !== undefined)
    fault('/testLimit', 'the test images are not used beside holdOut: leave it out')
  const train = size.train - heldOut
  const labelled = wanted.labelled === undefined ? undefined : countOf(wanted.labelled, train)
  if (labelled !== undefined && classes === 0)
    fault('/labelled', 'the images have no labels of which some could be kept: leave it out')
  else if (labelled !== undefined && (labelled < 1 || labelled > train))
    fault('/labelled', `is ${labelled} of ${train} training images; it should be 1 to ${train}`)
  for (const [key, needs] of [
    ['labelSeed', 'labelled'],
    ['holdOutSeed', 'holdOut'],
  ] as const)
    if (wanted[key] !== undefined && wanted[needs] === undefined)
      fault(`/${key}`, `draws nothing without '${needs}': give that too, or leave this out`)
  if (faults.length > 0) throw new InvalidDefinition(faults, 'the dataset')
  return { train, heldOut, labelled }
}

function pickFrames(all: { sequence: Int32Array; frame: Int32Array }, places: Int32Array) {
  const pick = (column: Int32Array) => Int32Array.from(places, (place) => column[place]!)
  return { sequence: pick(all.sequence), frame: pick(all.frame) }
}

/** Some images of a dataset, in the order of `places`. */
export function selectImages(dataset: Dataset, split: 'train' | 'test', places: Int32Array): Dataset {
  const { source, frames } = dataset
  const selected: Dataset = {
    ...dataset,
    split,
    size: places.length,
    read: async (indices) => dataset.read(within(indices)),
    labels: async () => {
      const all = await labelsOf(dataset)
      return Int32Array.from(places, (place) => all[place]!)
    },
    ...(frames ? { frames: async () => pickFrames(await frames(), places) } : {}),
    ...(source ? { source: { shape: source.shape, read: async (indices) => source.read(within(indices)) } } : {}),
  }
  const within = (indices: ArrayLike<number>) =>
    Int32Array.from(indices, (index) => {
      checkIndex(selected, index)
      return places[index]!
    })
  return selected
}

/** The same images under these labels. */
function relabel(dataset: Dataset, labels: Int32Array): Dataset {
  const { source } = dataset
  const pick = (indices: ArrayLike<number>) => Int32Array.from(indices, (index) => labels[index]!)
  return {
    ...dataset,
    read: async (indices) => ({ ...(await dataset.read(indices)), labels: pick(indices) }),
    labels: async () => labels,
    ...(source
      ? {
          source: {
            shape: source.shape,
            read: async (indices) => ({ ...(await source.read(indices)), labels: pick(indices) }),
          },
        }
      : {}),
  }
}

/** Held-out images are drawn evenly over the labels, and stay in the order of the dataset. */
async function holdOut({ train }: Corpus, count: number, wanted: Wanted): Promise<Corpus> {
  const dice = rollDice(wanted.holdOutSeed ?? 0).for('hold-out')
  const labels = train.classes > 0 ? await labelsOf(train) : new Int32Array(train.size)
  const out = new Set(chooseStratified(labels, count, dice))
  const places = Int32Array.from({ length: train.size }, (_, place) => place)
  return {
    train: selectImages(
      train,
      'train',
      places.filter((place) => !out.has(place)),
    ),
    test: selectImages(
      train,
      'test',
      places.filter((place) => out.has(place)),
    ),
  }
}

async function keepLabels({ train, test }: Corpus, count: number, wanted: Wanted): Promise<Corpus> {
  const labels = await labelsOf(train)
  const there = Int32Array.from(labels.keys()).filter((place) => labels[place]! >= 0)
  if (there.length < count)
    throw new InvalidDefinition(
      [{ pointer: '/labelled', detail: `is ${count}; only ${there.length} of the training images have a label` }],
      'the dataset',
    )
  const kept = new Int32Array(labels.length).fill(-1)
  const dice = rollDice(wanted.labelSeed ?? 0).for('labelled')
  for (const place of chooseStratified(
    there.map((at) => labels[at]!),
    count,
    dice,
  ))
    kept[there[place]!] = labels[there[place]!]!
  return { train: relabel(train, kept), test }
}

/** The parameters of the dataset itself. */
function ownParameters(wanted: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(wanted).filter(([key]) => !splitKeys.includes(key)))
}

type Parameters<Source> = Source extends DatasetSource<string, infer P extends TObject> ? P['properties'] : never

type WithSplits<Source extends { name: string }> = DatasetSource<
  Source['name'],
  TObject<Parameters<Source> & typeof splitParameters>
>

/** A dataset that can also be asked for a part of its labels, and to hold images out. */
function withSplits(source: DatasetSource): DatasetSource {
  return {
    ...source,
    parameters: Type.Object({ ...source.parameters.properties, ...splitParameters }, { additionalProperties: false }),
    async describe(wanted, bytes) {
      const found = await source.describe(ownParameters(wanted), bytes)
      const { train, heldOut } = partSizes(found, wanted)
      return { ...found, size: { train, test: heldOut || found.size.test } }
    },
    async open(wanted, bytes) {
      let corpus = await source.open(ownParameters(wanted), bytes)
      const { train, test } = corpus
      const { heldOut, labelled } = partSizes(
        { size: { train: train.size, test: test.size }, classes: train.classes },
        wanted,
      )
      if (heldOut > 0) corpus = await holdOut(corpus, heldOut, wanted)
      return labelled === undefined ? corpus : keepLabels(corpus, labelled, wanted)
    },
  }
}

/** All datasets of a registry, each with the parameters that every dataset has. */
export function withSplitsEach<Sources extends Record<string, { name: string }>>(
  sources: Sources,
): { [Name in keyof Sources]: WithSplits<Sources[Name]> } {
  const entries = Object.entries(sources).map(([name, source]) => [
    name,
    withSplits(source as unknown as DatasetSource),
  ])
  return Object.fromEntries(entries) as never
}
