import { writeFile } from 'node:fs/promises'
import type { Config } from '../config.ts'
import type { ImageCheck } from '../data/inspection.ts'
import type { Layout } from '../data/set-samples.ts'
import { type Client, openClient } from './client.ts'
import { exitCodes, type Output, size, table } from './output.ts'
import { packImages } from './packing.ts'

/** A set as REST shows it. */
interface SetResource {
  name: string
  createdAt: string
  images: { train: number; test: number }
  unlabelled: number
  classCount: number
  classes: { name: string; train: number; test: number }[]
  sequences: number
  shapes: { height: { least: number; most: number }; width: { least: number; most: number }; grey: number }
  bytes: number
  shards: number
}

interface AddedResource extends SetResource {
  skipped?: { count: number; first: { name: string; reason: string }[] }
  passedOver?: Record<string, number>
}

export interface AddSetOptions {
  from?: string
  prefix?: string
  layout?: Layout
  check?: ImageCheck
  skipDamaged?: boolean
  side?: number
  channels?: number
  fit?: string
}

const path = (name: string) => `/v1/datasets/sets/${encodeURIComponent(name)}`

async function withClient<T>(config: Config, work: (client: Client) => Promise<T>): Promise<T> {
  const client = openClient(config)
  try {
    return await work(client)
  } finally {
    await client.close()
  }
}

const span = ({ least, most }: { least: number; most: number }) => (least === most ? `${least}` : `${least} to ${most}`)

function describe(set: SetResource): string {
  const { images, classes, unlabelled, sequences, shapes, shards, bytes } = set
  const all = images.train + images.test
  const lines = [
    `${set.name}: ${images.train} images to train, ${images.test} to test`,
    `  labels     ${classes.length === 0 ? 'none' : `${classes.length} classes${unlabelled > 0 ? `, ${unlabelled} images without` : ''}`}`,
    `  pixels     ${span(shapes.height)} high, ${span(shapes.width)} wide${shapes.grey > 0 ? `, ${shapes.grey === all ? 'all' : shapes.grey} grey` : ''}`,
    `  stored     ${size(bytes)} in ${shards} shard${shards === 1 ? '' : 's'}`,
  ]
  if (sequences > 0) lines.push(`  sequences  ${sequences}`)
  const most = 20
  const rows = classes.slice(0, most).map(({ name, train, test }) => [`  ${name}`, `${train}`, `${test}`])
  if (rows.length > 0) lines.push(table(['  class', 'train', 'test'], rows))
  if (classes.length > most) lines.push(`  and ${classes.length - most} more`)
  return lines.join('\n')
}

function describeAdded(added: AddedResource): string {
  const { skipped, passedOver = {} } = added
  const lines = [describe(added)]
  if (skipped && skipped.count > 0) {
    lines.push(`left out, since damaged: ${skipped.count}`)
    for (const { reason } of skipped.first) lines.push(`  ${reason}`)
  }
  const others = Object.entries(passedOver)
  if (others.length > 0)
    lines.push(`passed over: ${others.map(([extension, count]) => `${count} ${extension}`).join(', ')}`)
  lines.push(`in a definition: "dataset": { "name": "images", "set": "${added.name}" }`)
  return lines.join('\n')
}

/** Packs what lies at a path and sends it, or names the shards in the object store. Returns the exit code. */
export async function addSet(config: Config, output: Output, name: string, options: AddSetOptions): Promise<number> {
  const { from, prefix, layout, ...others } = options
  return withClient(config, async (client) => {
    if (from === undefined) {
      const asked = { name, prefix, ...(layout ? { layout } : {}), ...others }
      output.result(await client.post<AddedResource>('/v1/datasets', asked), describeAdded)
      return exitCodes.done
    }
    const pack = await packImages(from, layout)
    output.say(`sends ${pack.what} (${pack.layout})`)
    const query = new URLSearchParams({ name, layout: pack.layout })
    for (const [key, value] of Object.entries(others)) if (value !== undefined) query.set(key, String(value))
    const added = await client.upload<AddedResource>(`/v1/datasets?${query}`, 'application/x-tar', pack.stream)
    output.result(added, describeAdded)
    return exitCodes.done
  })
}

export async function listSets(config: Config, output: Output): Promise<number> {
  return withClient(config, async (client) => {
    const sets: Omit<SetResource, 'classes'>[] = []
    for (let after: string | null = ''; after !== null; ) {
      const page: { items: Omit<SetResource, 'classes'>[]; next: string | null } = await client.get(
        `/v1/datasets/sets?order=name&first=100${after ? `&after=${encodeURIComponent(after)}` : ''}`,
      )
      sets.push(...page.items)
      after = page.next
    }
    output.result({ sets }, () =>
      sets.length === 0
        ? 'there are no sets yet: gestalt dataset add NAME --from FOLDER'
        : table(
            ['name', 'train', 'test', 'classes', 'size', 'added'],
            sets.map(({ name, images, classCount, bytes, createdAt }) => [
              ...[name, `${images.train}`, `${images.test}`, `${classCount}`],
              ...[size(bytes), createdAt.slice(0, 16).replace('T', ' ')],
            ]),
          ),
    )
    return exitCodes.done
  })
}

export async function showSet(config: Config, output: Output, name: string): Promise<number> {
  return withClient(config, async (client) => {
    output.result(await client.get<SetResource>(path(name)), describe)
    return exitCodes.done
  })
}

/** Some images of a set on one sheet, as a file. */
export async function previewSet(
  config: Config,
  output: Output,
  name: string,
  file: string | undefined,
): Promise<number> {
  return withClient(config, async (client) => {
    const to = file ?? `${name}.png`
    await writeFile(to, await client.bytes(`${path(name)}/preview`))
    output.result({ file: to }, () => `some images of ${name} are in ${to}`)
    return exitCodes.done
  })
}

/** Compares a set with its digests. Exits 1 where something of it is damaged. */
export async function verifySet(config: Config, output: Output, name: string): Promise<number> {
  return withClient(config, async (client) => {
    const objects: { path: string; bytes: number; fault?: string }[] = []
    const text = Buffer.from(await client.bytes(`${path(name)}/verify`, 'POST')).toString()
    for (const line of text.trim().split('\n')) objects.push(JSON.parse(line))
    const damaged = objects.filter(({ fault }) => fault !== undefined)
    output.result({ set: name, objects: objects.length, damaged }, () =>
      damaged.length === 0
        ? `${name}: all ${objects.length} objects are as they were stored`
        : damaged.map((object) => `${object.path}: ${object.fault}`).join('\n'),
    )
    return damaged.length === 0 ? exitCodes.done : exitCodes.failed
  })
}

export async function removeSet(config: Config, output: Output, name: string): Promise<number> {
  return withClient(config, async (client) => {
    await client.bytes(path(name), 'DELETE')
    output.result({ removed: name }, () => `the set ${name} is removed`)
    return exitCodes.done
  })
}
