import { type Static, Type } from 'typebox'
import type { StoredTensor } from '../models/checkpoint.ts'

const id = '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'

/** What imported weights may be called. */
export const weightsName = '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'

/** Where the first weights of a run come from. */
export const fromSchema = Type.Object(
  {
    checkpoint: Type.Optional(Type.String({ pattern: id, description: 'A stored checkpoint of any run, by its id.' })),
    run: Type.Optional(
      Type.String({
        pattern: id,
        description: 'A run by its id: its final checkpoint, or the newest where it has none.',
      }),
    ),
    weights: Type.Optional(
      Type.String({ pattern: weightsName, description: 'Imported weights, by name (gestalt weights add).' }),
    ),
    parts: Type.Union([Type.Literal('net'), Type.Literal('weights'), Type.Literal('all')], {
      default: 'weights',
      description:
        "Which are taken: the net's; also what the same method learned, or a head where both classify, as far as it fits; or all that fits, memory banks included.",
    }),
    layers: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 100, description: 'As the net names it: conv1.' }), {
        minItems: 1,
        maxItems: 1000,
        uniqueItems: true,
        description: 'The layers of the net whose weights are taken, the others being drawn; all where absent.',
      }),
    ),
    sha256: Type.Optional(
      Type.String({ pattern: '^[0-9a-f]{64}$', description: 'Of the source; filled in when it is accepted.' }),
    ),
    method: Type.Optional(
      Type.String({ maxLength: 100, description: 'What trained the same net; filled in when it is accepted.' }),
    ),
  },
  { additionalProperties: false, description: 'Where the first weights come from: one checkpoint, run or weights.' },
)

export type From = Static<typeof fromSchema>

/** A source of weights, by its header. */
export interface Origin {
  /** What it is, for people. */
  title: string
  /** The id of the checkpoint that was found for a run. */
  checkpoint?: string
  /** Of its bytes and of how they are read. */
  sha256: string
  /** Of the run that trained it; absent where the weights were imported. */
  made?: { method: string; net: unknown }
  /** Names and shapes as in checkpoints, `weights/` and `memory/` only. */
  tensors: Record<string, readonly number[]>
}

/** Where sources of weights are found. */
export interface Origins {
  /** Reads no more than a header. Throws NotFound, or Damaged where that does not read back. */
  find(from: From): Promise<Origin>
  /**
   * The tensors that `wants` asks for, one at a time. Throws NotFound, or Damaged where the source no longer is what
   * `from.sha256` says; the last of that comes after the last tensor.
   */
  read(from: From, wants: (name: string) => boolean): AsyncIterable<[name: string, tensor: StoredTensor]>
}
