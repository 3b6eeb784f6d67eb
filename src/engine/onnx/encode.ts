import { type Attribute, type Constant, elementTypes, type Model, type Node, type Port } from './emitter.ts'

/** The version of the operators' definitions, and of the file format that knows it (onnx.proto: IRVersion). */
const operatorSet = 18
const formatVersion = 8

/** AttributeProto.AttributeType */
const attributeTypes = { float: 1, integer: 2, text: 3, tensor: 4, floats: 6, integers: 7 } as const

const varint = 0
const bytesOf = 2
const fixed32 = 5

/** A part of a message whose bytes are not copied into it. */
export interface Piece {
  head: Uint8Array
  body: Uint8Array
}

/** Protocol buffers, as far as ONNX models need them (protobuf.dev/programming-guides/encoding). */
class Message {
  private bytes = Buffer.allocUnsafe(256)
  private length = 0

  get written(): Uint8Array {
    return this.bytes.subarray(0, this.length)
  }

  private reserve(count: number): void {
    if (this.length + count <= this.bytes.length) return
    const larger = Buffer.allocUnsafe(2 * (this.length + count))
    larger.set(this.written)
    this.bytes = larger
  }

  /** A whole number of up to 2^53, negative ones as 64 bits in two's complement. */
  private number(value: number): void {
    this.reserve(10)
    if (value < 0) {
      let rest = BigInt.asUintN(64, BigInt(value))
      for (; rest > 127n; rest >>= 7n) this.bytes[this.length++] = Number(rest & 127n) | 128
      this.bytes[this.length++] = Number(rest)
      return
    }
    for (; value > 127; value = Math.floor(value / 128)) this.bytes[this.length++] = (value % 128) | 128
    this.bytes[this.length++] = value
  }

  private tag(field: number, wire: number): void {
    this.number(8 * field + wire)
  }

  integer(field: number, value: number): void {
    this.tag(field, varint)
    this.number(value)
  }

  integers(field: number, values: readonly number[]): void {
    for (const value of values) this.integer(field, value)
  }

  float(field: number, value: number): void {
    this.tag(field, fixed32)
    this.reserve(4)
    this.length = this.bytes.writeFloatLE(value, this.length)
  }

  block(field: number, bytes: Uint8Array): void {
    this.tag(field, bytesOf)
    this.number(bytes.length)
    this.reserve(bytes.length)
    this.bytes.set(bytes, this.length)
    this.length += bytes.length
  }

  text(field: number, text: string): void {
    this.block(field, Buffer.from(text))
  }

  /** The beginning of a block of so many bytes, which follow. */
  begin(field: number, length: number): void {
    this.tag(field, bytesOf)
    this.number(length)
  }

  message(field: number, write: (message: Message) => void): void {
    const inner = new Message()
    write(inner)
    this.block(field, inner.written)
  }
}

function rawNumbers({ dtype, values }: Omit<Constant, 'name'>): Uint8Array {
  const numbers =
    dtype === 'int64'
      ? BigInt64Array.from(Array.from(values, BigInt))
      : dtype === 'float32'
        ? Float32Array.from(values)
        : dtype === 'int32'
          ? Int32Array.from(values)
          : Uint8Array.from(values)
  return new Uint8Array(numbers.buffer)
}

/** TensorProto */
function writeTensor(message: Message, tensor: Omit<Constant, 'name'>, name = ''): void {
  message.integers(1, tensor.shape)
  message.integer(2, elementTypes[tensor.dtype])
  if (name) message.text(8, name)
  message.block(9, rawNumbers(tensor))
}

/** AttributeProto */
function writeAttribute(message: Message, name: string, attribute: Attribute): void {
  message.text(1, name)
  const type = (kind: keyof typeof attributeTypes) => message.integer(20, attributeTypes[kind])
  if (typeof attribute === 'number') {
    message.integer(3, attribute)
    type('integer')
  } else if (typeof attribute === 'string') {
    message.text(4, attribute)
    type('text')
  } else if ('floats' in attribute) {
    for (const value of attribute.floats) message.float(7, value)
    type('floats')
  } else if ('float' in attribute) {
    message.float(2, attribute.float)
    type('float')
  } else if ('tensor' in attribute) {
    message.message(5, (inner) => writeTensor(inner, attribute.tensor))
    type('tensor')
  } else {
    message.integers(8, attribute)
    type('integers')
  }
}

/** NodeProto */
function writeNode(message: Message, { op, inputs, outputs, attributes, domain, name }: Node): void {
  for (const input of inputs) message.text(1, input)
  for (const output of outputs) message.text(2, output)
  message.text(3, name)
  message.text(4, op)
  for (const [key, attribute] of Object.entries(attributes))
    message.message(5, (inner) => writeAttribute(inner, key, attribute))
  if (domain) message.text(7, domain)
}

/** ValueInfoProto */
function writePort(message: Message, { name, dtype, shape }: Port): void {
  message.text(1, name)
  message.message(2, (type) =>
    type.message(1, (tensor) => {
      tensor.integer(1, elementTypes[dtype])
      if (!shape) return
      tensor.message(2, (sides) => {
        for (const side of shape)
          sides.message(1, (dimension) => {
            if (typeof side === 'number') dimension.integer(1, side)
            else dimension.text(2, side)
          })
      })
    }),
  )
}

/** A constant of a graph, its numbers apart. */
function tensorPiece({ name, dtype, shape, values }: Constant): Piece {
  const floats = dtype === 'float32' && values instanceof Float32Array
  const body = floats
    ? new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    : rawNumbers({ dtype, shape, values })
  const own = new Message()
  own.integers(1, shape)
  own.integer(2, elementTypes[dtype])
  own.text(8, name)
  own.begin(9, body.length)
  const head = new Message()
  head.begin(5, own.written.length + body.length)
  return { head: Buffer.concat([head.written, own.written]), body }
}

function writeOperatorSets(model: Message, nodes: readonly Node[]): void {
  const domains = new Set(['', ...nodes.map(({ domain }) => domain)])
  for (const domain of domains)
    model.message(8, (set) => {
      set.text(1, domain)
      set.integer(2, domain === '' ? operatorSet : 1)
    })
}

/** A model as an ONNX file, piece by piece: the numbers of its constants are not copied. `facts` are its metadata. */
export function encodeFile(model: Model, facts: Record<string, string>): Uint8Array[] {
  const { nodes, inputs, outputs, constants } = model
  const graph = new Message()
  for (const node of nodes) graph.message(1, (message) => writeNode(message, node))
  graph.text(2, 'features')
  for (const port of inputs) graph.message(11, (message) => writePort(message, port))
  for (const port of outputs) graph.message(12, (message) => writePort(message, port))
  const pieces = constants.map(tensorPiece)
  const length = pieces.reduce((sum, { head, body }) => sum + head.length + body.length, graph.written.length)
  const file = new Message()
  file.integer(1, formatVersion)
  file.text(2, 'gestalt')
  writeOperatorSets(file, nodes)
  for (const [key, value] of Object.entries(facts))
    file.message(14, (entry) => {
      entry.text(1, key)
      entry.text(2, value)
    })
  file.begin(7, length)
  return [file.written, graph.written, ...pieces.flatMap(({ head, body }) => [head, body])]
}

/** A model as the bytes of an ONNX file (onnx.proto: ModelProto). */
export function encodeModel({ nodes, inputs, outputs, constants }: Model): Uint8Array {
  const model = new Message()
  model.integer(1, formatVersion)
  model.text(2, 'gestalt')
  model.message(7, (graph) => {
    for (const node of nodes) graph.message(1, (message) => writeNode(message, node))
    graph.text(2, 'step')
    for (const constant of constants) graph.message(5, (message) => writeTensor(message, constant, constant.name))
    for (const port of inputs) graph.message(11, (message) => writePort(message, port))
    for (const port of outputs) graph.message(12, (message) => writePort(message, port))
  })
  writeOperatorSets(model, nodes)
  return model.written
}
