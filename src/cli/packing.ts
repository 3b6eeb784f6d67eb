import { createReadStream } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, dirname, extname, join, relative, sep } from 'node:path'
import { rollDice } from '../data/dice.ts'
import { knownFiles } from '../data/known-files.ts'
import { imageNames, type Layout, setLimits, splitIn } from '../data/set-samples.ts'
import { readTar, tarEnd, tarEntry } from '../data/tar.ts'
import { InvalidDefinition, NotFound } from '../errors.ts'

/** Images on their way to a server, as one tar archive. */
export interface Pack {
  layout: Layout
  /** What is packed, in words. */
  what: string
  stream: AsyncIterable<Uint8Array>
}

/** A file to be packed, and what goes with it. */
interface Packed {
  file: string
  name: string
  beside?: { name: string; bytes: Uint8Array }
}

async function* pack(files: readonly Packed[]): AsyncGenerator<Uint8Array> {
  for (const { file, name, beside } of files) {
    const { size } = await stat(file).catch((cause: unknown) => {
      throw new NotFound(`there is no readable ${file}`, 'correct the list, or leave it out', { cause })
    })
    // What is too large to be an image is refused by name where all the others are judged as well.
    if (size > setLimits.imageBytes)
      throw new InvalidDefinition(
        [{ pointer: '', detail: `${file} has ${size} bytes; at most ${setLimits.imageBytes} are read` }],
        'the images',
      )
    yield tarEntry(name, await readFile(file))
    if (beside) yield tarEntry(beside.name, beside.bytes)
  }
  yield tarEnd
}

/** All files below a folder, links followed, without hidden ones. */
async function walk(folder: string): Promise<string[]> {
  const found: string[] = []
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.name.startsWith('.')) continue
    const path = join(folder, entry.name)
    const isFolder = entry.isDirectory() || (entry.isSymbolicLink() && (await stat(path)).isDirectory())
    if (isFolder) for (const file of await walk(path)) found.push(file)
    else found.push(path)
  }
  return found
}

const splitFolders = new Set(['train', 'test', 'val', 'validation'])

/** Whether images lie in folders of their own, below those of the splits. */
function layoutOf(folder: string, images: readonly string[]): Layout {
  const depths = new Set(
    images.map((image) => {
      const parts = relative(folder, image).split(sep).slice(0, -1)
      return splitFolders.has(parts[0] ?? '') ? parts.length - 1 : parts.length
    }),
  )
  if (!depths.has(0)) return 'folders'
  if (depths.size === 1) return 'flat'
  const detail = `${folder} has images beside folders of images: say which it is with --layout folders or --layout flat`
  throw new InvalidDefinition([{ pointer: '', detail }], 'the folder')
}

/** 'frame 2' before 'frame 10'. */
const inOrder = new Intl.Collator('en', { numeric: true }).compare

async function packFolder(folder: string, given: Layout | undefined): Promise<Pack> {
  const files = await walk(folder)
  const tars = files.filter((file) => file.endsWith('.tar'))
  const images = files.filter((file) => imageNames.test(file))
  if (images.length === 0 && tars.length > 0) return packTars(tars.sort(inOrder), given)
  if (images.length === 0)
    throw new NotFound(
      `there are no images in ${folder}`,
      `name the folder that they lie in; files that are no images are known of: ${Object.keys(knownFiles).join(', ')}`,
    )
  const layout = given ?? layoutOf(folder, images)
  if (layout === 'webdataset')
    return { layout, what: `${files.length} files`, stream: pack(named(folder, files.sort())) }
  images.sort(inOrder)
  // Mixed, so that the first images of the set are some of every class; videos stay in their order.
  const order =
    layout === 'frames' ? images : Array.from(rollDice(0).for('pack').permutation(images.length), (i) => images[i]!)
  return { layout, what: `${images.length} images`, stream: pack(named(folder, order)) }
}

function named(folder: string, files: readonly string[]): Packed[] {
  return files.map((file) => ({ file, name: relative(folder, file).split(sep).join('/') }))
}

/** Fields of a line of CSV; quotes may hold commas. */
function fields(line: string): string[] {
  const found = line.match(/("([^"]|"")*"|[^,]*)(,|$)/g) ?? []
  const cells = found.map((cell) =>
    cell
      .replace(/,$/, '')
      .trim()
      .replace(/^"(.*)"$/s, '$1')
      .replaceAll('""', '"'),
  )
  return line.endsWith(',') ? cells : cells.slice(0, -1)
}

const columns = ['path', 'label', 'split']

/** Lines 'path', 'path,label' or 'path,label,split', with or without a line of these words before them. */
async function packList(list: string): Promise<Pack> {
  const lines = (await readFile(list, 'utf8'))
    .split(/\r?\n/)
    .filter((line) => line.trim() !== '' && !line.startsWith('#'))
  const first = fields(lines[0] ?? '').map((word) => word.toLowerCase())
  const header = first.includes('path') && first.every((word) => columns.includes(word)) ? first : undefined
  const order = header ?? columns
  const rows = lines.slice(header ? 1 : 0).map((line, i) => {
    const cells = fields(line)
    const [path, label, split] = columns.map((name) => cells[order.indexOf(name)])
    if (!path || cells.length > order.length) {
      const detail = `'${line.slice(0, 100)}' is not path, path,label or path,label,split`
      throw new InvalidDefinition([{ pointer: `/${i + (header ? 2 : 1)}`, detail }], list)
    }
    return { path, label, split }
  })
  if (rows.length === 0) throw new NotFound(`${list} names no images`, 'write a line for each: path,label')
  const files = rows.map(({ path, label, split }, i): Packed => {
    const extension = extname(path)
    // The key of a WebDataset sample has no dots.
    const key = `${String(i).padStart(8, '0')}-${basename(path, extension).replaceAll('.', '_')}`
    const said = JSON.stringify({ ...(label ? { label } : {}), ...(split ? { split } : {}) })
    const beside = { name: `${key}.json`, bytes: Buffer.from(said) }
    return { file: join(dirname(list), path), name: `${key}${extension}`, beside }
  })
  return { layout: 'webdataset', what: `${rows.length} images`, stream: pack(files) }
}

async function* joinTars(tars: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const tar of tars) {
    const split = tars.length > 1 ? splitIn(basename(tar)) : undefined
    const limits = { entries: setLimits.entries, fileBytes: setLimits.imageBytes }
    for await (const file of readTar(tar, createReadStream(tar, { highWaterMark: 2 ** 18 }), limits))
      yield tarEntry(split === undefined ? file.name : `${split}/${file.name}`, await file.read())
  }
  yield tarEnd
}

function packTars(tars: readonly string[], layout: Layout = 'webdataset'): Pack {
  const [only] = tars
  const stream = tars.length === 1 ? createReadStream(only!, { highWaterMark: 2 ** 18 }) : joinTars(tars)
  return { layout, what: tars.length === 1 ? basename(only!) : `${tars.length} archives`, stream }
}

/** What lies at a path, packed as it is read: a folder of images, of videos or of shards, a list, or an archive. */
export async function packImages(from: string, layout: Layout | undefined): Promise<Pack> {
  const found = await stat(from).catch((cause: unknown) => {
    throw new NotFound(`there is no ${from}`, 'name a folder of images, a list of files, or a tar archive', { cause })
  })
  if (found.isDirectory()) return packFolder(from, layout)
  if (from.endsWith('.tar')) return packTars([from], layout)
  if (/\.(csv|txt|lst)$/.test(from)) return packList(from)
  throw new InvalidDefinition(
    [{ pointer: '', detail: `${from} is no folder, no list (.csv, .txt) and no archive (.tar)` }],
    'what to add',
  )
}
