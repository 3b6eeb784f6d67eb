import { createHash } from 'node:crypto'
import { parquetMetadata, parquetRead, type SchemaElement } from 'hyparquet'
import { ByteWriter, ParquetWriter } from 'hyparquet-writer'

/** Points of one curve in the order of their steps, column by column; times in milliseconds since 1970. */
export interface Columns {
  steps: BigInt64Array
  values: Float64Array
  times: BigInt64Array
}

/** Bytes of the file from `start` up to but without `end`, and their digest. */
export interface Extent {
  start: number
  end: number
  sha256: string
}

/** A row group: a stretch of one curve. */
export interface Part extends Extent {
  name: string
  first: number
  last: number
  points: number
}

/** Where in the file everything lies, so that a range of one curve can be read, and verified, alone. */
export interface Layout {
  parts: Part[]
  footer: Extent
}

// Required columns without dictionaries: a dictionary would hold 0 and -0 to be the same.
const schema: SchemaElement[] = [
  { name: 'root', num_children: 4 },
  { name: 'name', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' },
  { name: 'step', type: 'INT64', repetition_type: 'REQUIRED' },
  { name: 'value', type: 'DOUBLE', repetition_type: 'REQUIRED' },
  { name: 'time', type: 'INT64', converted_type: 'TIMESTAMP_MILLIS', repetition_type: 'REQUIRED' },
]

/**
 * Writes stretches of curves as a Parquet file with the columns name, step, value and time, a row group each. Yields
 * the bytes as they come, and at the end fills in `layout`.
 */
export async function* encodeParquet(
  stretches: AsyncIterable<Columns & { name: string }>,
  layout: Layout,
): AsyncGenerator<Uint8Array> {
  const writer = new ByteWriter(2 ** 20)
  const file = new ParquetWriter({ writer, schema, createdBy: 'gestalt' })
  let start = 0
  const take = (): { bytes: Uint8Array; extent: Extent } => {
    const bytes = writer.getBytes().slice()
    writer.index = 0
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const extent = { start, end: start + bytes.length, sha256 }
    start = extent.end
    return { bytes, extent }
  }
  yield take().bytes
  for await (const { name, steps, values, times } of stretches) {
    await file.write({
      columnData: [
        { name: 'name', data: new Array<string>(steps.length).fill(name), encoding: 'RLE_DICTIONARY' },
        { name: 'step', data: steps, encoding: 'DELTA_BINARY_PACKED' },
        { name: 'value', data: values, encoding: 'PLAIN' },
        { name: 'time', data: times, encoding: 'DELTA_BINARY_PACKED' },
      ],
      rowGroupSize: steps.length,
    })
    const { bytes, extent } = take()
    const [first, last] = [Number(steps[0]), Number(steps.at(-1))]
    layout.parts.push({ name, first, last, points: steps.length, ...extent })
    yield bytes
  }
  await file.finish()
  const { bytes, extent } = take()
  layout.footer = extent
  yield bytes
}

/** The end of a file that says what is in it. */
export type Footer = ReturnType<typeof parquetMetadata>

export function decodeFooter(bytes: Uint8Array): Footer {
  return parquetMetadata(bytes)
}

/** Points as plain numbers, column by column. */
export interface Decoded {
  steps: Float64Array
  values: Float64Array
  times: Float64Array
}

/** The stretch of a curve that is the row group of this place, from the bytes of that row group. */
export async function decodePart(footer: Footer, place: number, part: Part, bytes: Uint8Array): Promise<Decoded> {
  const { start, points } = part
  const rowStart = footer.row_groups.slice(0, place).reduce((rows, group) => rows + Number(group.num_rows), 0)
  const empty = () => new Float64Array(points)
  const found: Record<string, Float64Array> = { step: empty(), value: empty(), time: empty() }
  await parquetRead({
    file: {
      byteLength: part.end,
      slice: (from, to = part.end) => new Uint8Array(bytes.subarray(from - start, to - start)).buffer,
    },
    metadata: footer,
    columns: Object.keys(found),
    parsers: { timestampFromMilliseconds: (milliseconds) => milliseconds },
    ...{ rowStart, rowEnd: rowStart + points },
    onChunk({ columnName, columnData, rowStart: at }) {
      const column = found[columnName]!
      for (let row = 0; row < columnData.length; row++) column[at - rowStart + row] = Number(columnData[row])
    },
  })
  return { steps: found.step!, values: found.value!, times: found.time! }
}
