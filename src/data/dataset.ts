import type { Static, TObject } from 'typebox'

/** Height, width, channels. */
export type ImageShape = readonly [height: number, width: number, channels: number]

/** Images as stored: `data` is [n, h, w, c] bytes in row-major order, one label an image where there are labels, -1 for none. */
export interface Pixels {
  data: Uint8Array
  shape: ImageShape
  labels?: Int32Array
}

/** One split of a corpus with random access. `classes` is 0 where there are no labels. */
export interface Dataset {
  readonly name: string
  readonly split: 'train' | 'test'
  readonly size: number
  readonly imageShape: ImageShape
  readonly classes: number
  readonly classNames?: readonly string[]
  /** Images in the order of `indices`; refuses an index outside [0, size). */
  read(indices: ArrayLike<number>): Promise<Pixels>
  /** The same images in another, larger size, for views that are cut out of them. */
  readonly source?: { readonly shape: ImageShape; read(indices: ArrayLike<number>): Promise<Pixels> }
  /** The labels of all images, where they can be told without reading those. */
  labels?(): Promise<Int32Array>
  /** Which video each image is a frame of, and which of its frames; absent where images stand alone. */
  frames?(): Promise<{ sequence: Int32Array; frame: Int32Array }>
}

/** Refuses an index outside [0, size). */
export function checkIndex(dataset: Dataset, index: number): void {
  if (Number.isInteger(index) && index >= 0 && index < dataset.size) return
  throw new RangeError(`${dataset.name} has no ${dataset.split} image ${index}; there are 0 to ${dataset.size - 1}`)
}

/** Both splits of a corpus. */
export interface Corpus {
  train: Dataset
  test: Dataset
}

/** What is known of a dataset before anything is read: enough for a plan. */
export interface DatasetDescription {
  imageShape: ImageShape
  classes: number
  size: { train: number; test: number }
  /** What it takes in memory once opened, in bytes; absent where it is next to nothing. */
  memoryBytes?: number
}

/** Where the bytes of datasets are read from: `path` is '<dataset>/<file>'. */
export interface ByteSource {
  /** Size in bytes, or undefined where there is no such file. */
  stat(path: string): Promise<{ size: number } | undefined>
  /** The whole file, or the bytes from `start` up to but without `end`. Throws NotFound. */
  read(path: string, range?: { start: number; end: number }): Promise<Uint8Array>
  /** The files whose path starts with the prefix, where such a source can tell. */
  list?(prefix: string): AsyncIterable<string>
}

/** A kind of dataset: one file in `data/` and one line in `data/index.ts`. */
export interface DatasetSource<Name extends string = string, P extends TObject = TObject> {
  name: Name
  title: string
  source: string
  parameters: P
  /** Why an experiment on it can be planned but not run, and the cure, where that is so. */
  absent?: string
  /** Throws NotFound with the cure where its files are missing. */
  describe(parameters: Static<P>, bytes: ByteSource): Promise<DatasetDescription>
  /** Throws NotFound, or Damaged where a file does not decode. */
  open(parameters: Static<P>, bytes: ByteSource): Promise<Corpus>
}

/** Keeps the literal name and parameter types of a dataset source. */
export function defineDataset<const Name extends string, P extends TObject>(source: DatasetSource<Name, P>) {
  return source
}
