import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import { type Static, type TObject, type TSchema, Type } from 'typebox'
import { type Augmentation, augmentationSchema } from '../data/augment.ts'
import { datasets } from '../data/index.ts'
import { engines } from '../engines.ts'
import { type Fault, InvalidDefinition } from '../errors.ts'
import { evaluations } from '../models/evaluations/index.ts'
import { methods } from '../models/methods/index.ts'
import { nets } from '../models/nets/index.ts'
import { trainingSchema } from '../models/training/training.ts'
import { type Expected, expectedSchema } from './expected.ts'
import { oversizeFault, toFaults } from './faults.ts'
import { fromSchema } from './from.ts'
import { asWritten, type Schema, withDefaults } from './schema.ts'

/** The version of the definition's schema that this code reads. */
export const definitionVersion = 1

/** One unit of a registry as a definition names it: its name and its parameters, side by side. */
type Choice<Registry extends Record<string, { parameters: TObject }>> = {
  [Name in keyof Registry]: { name: Name } & Static<Registry[Name]['parameters']>
}[keyof Registry]

/** An experiment as it was asked for, every default in place. */
export interface Definition {
  version: typeof definitionVersion
  name: string
  tags: string[]
  notes: string
  seed: number
  priority: number
  dataset: Choice<typeof datasets>
  net: Choice<typeof nets>
  method: Choice<typeof methods>
  /** In place of those that the method draws of itself. */
  views?: Augmentation[]
  training: Static<typeof trainingSchema>
  /** Where the first weights come from; drawn where absent. */
  from?: Static<typeof fromSchema>
  evaluations: Choice<typeof evaluations>[]
  embeddings: { dtype: 'f32' | 'f16' }
  expected: Expected[]
  resources: { gpu: boolean; gpuMemory?: number; engine: string; cores: number; memoryBytes: number }
}

// A line of text: no control characters, no half of a surrogate pair (neither fits into the database), not only blanks.
const line = '^(?=.*\\S)[^\\p{Cc}\\p{Cs}]*$'

function choice(registry: Record<string, { name: string; title: string; parameters: TObject }>, description: string) {
  const members = Object.values(registry).map((unit) =>
    Type.Object(
      { name: Type.Literal(unit.name, { description: unit.title }), ...unit.parameters.properties },
      { additionalProperties: false, title: unit.title },
    ),
  )
  return Type.Union(members, { description })
}

const resolvedSchema = Type.Object(
  {
    version: Type.Literal(definitionVersion, { description: 'Version of this schema.' }),
    name: Type.String({
      minLength: 1,
      maxLength: 200,
      pattern: line,
      description: 'What people call the experiment: one line, not only blanks.',
    }),
    tags: Type.Array(
      Type.String({ minLength: 1, maxLength: 64, pattern: line, description: 'One line, not only blanks.' }),
      { maxItems: 32, uniqueItems: true, default: [], description: 'Words to find it by.' },
    ),
    notes: Type.String({
      maxLength: 10_000,
      pattern: '^[^\\0\\p{Cs}]*$',
      default: '',
      description: 'Free text without NUL characters.',
    }),
    seed: Type.Integer({
      minimum: 0,
      maximum: 2 ** 32 - 1,
      default: 0,
      description: 'Every random number of the run comes from this and the step.',
    }),
    priority: Type.Integer({
      minimum: -100,
      maximum: 100,
      default: 0,
      description: 'Of two waiting runs the one with the higher priority runs first; among equals the older one.',
    }),
    dataset: choice(datasets, 'The images.'),
    net: choice(nets, 'The layers.'),
    method: choice(methods, 'The way of learning.'),
    views: Type.Optional(
      Type.Array(augmentationSchema, {
        minItems: 1,
        maxItems: 16,
        description:
          'How each view of an image is drawn for training, one entry a view, in place of how the method draws them of itself.',
      }),
    ),
    training: trainingSchema,
    from: Type.Optional(fromSchema),
    evaluations: Type.Array(choice(evaluations, 'A measurement.'), {
      maxItems: 32,
      default: [],
      description: 'What is measured once training is over, in this order.',
    }),
    embeddings: Type.Object(
      {
        dtype: Type.Union([Type.Literal('f32'), Type.Literal('f16')], {
          default: 'f32',
          description: 'Numbers of 32 bits, or of 16 in half the space.',
        }),
      },
      {
        additionalProperties: false,
        default: {},
        description: 'How the embeddings of the whole dataset are kept.',
      },
    ),
    expected: expectedSchema,
    resources: Type.Object(
      {
        gpu: Type.Boolean({ default: false, description: 'Whether only a worker that computes on a GPU may take it.' }),
        gpuMemory: Type.Optional(
          Type.Integer({
            minimum: 2 ** 20,
            maximum: 2 ** 50,
            description:
              'Memory of the GPU that its worker must have left, in bytes; asks for a GPU. Without it, a run counts as ' +
              'an even share of its worker.',
          }),
        ),
        engine: Type.Enum(['any', ...engines], {
          default: 'any',
          description: 'What it must be computed by, or any.',
        }),
        cores: Type.Integer({
          minimum: 1,
          maximum: 1024,
          default: 1,
          description: 'Cores that the machine of its worker must have.',
        }),
        memoryBytes: Type.Integer({
          minimum: 0,
          maximum: 2 ** 50,
          default: 0,
          description: 'Memory its worker must have left, in bytes; 0: as planned.',
        }),
      },
      { additionalProperties: false, default: {}, description: 'What a worker must have to take it.' },
    ),
  },
  { additionalProperties: false, description: 'An experiment.' },
)

const written = asWritten(resolvedSchema as TSchema as Schema)

/** The JSON schema (2020-12, as OpenAPI 3.1 uses it) of what a person writes; keys with a default may be left out. */
export const definitionSchema = Type.Unsafe<Definition>(written as TSchema)

let validator: ValidateFunction | undefined

/** Compiled where it is first asked for: that takes a tenth of what most processes take to start. */
function validate(value: unknown): readonly ErrorObject[] {
  validator ??= new Ajv2020({
    allErrors: true,
    verbose: true,
    discriminator: true,
    coerceTypes: false,
    useDefaults: false,
    removeAdditional: false,
    ownProperties: true,
    strictTypes: false,
  }).compile(written)
  return validator(value) ? [] : (validator.errors ?? [])
}

/** A GPU's memory asks for a GPU: who says that none is needed has to take one of the two back. */
function contradictions(value: unknown): Fault[] {
  const { gpu, gpuMemory } = (value as { resources?: Record<string, unknown> } | null)?.resources ?? {}
  if (gpu !== false || gpuMemory === undefined) return []
  return [{ pointer: '/resources/gpu', detail: 'is false, and gpuMemory asks for a GPU; leave one of the two out' }]
}

/**
 * What a person wrote, as a Definition with every default in place. Throws InvalidDefinition with all faults, each
 * with a JSON pointer and what would have been right; nothing is dropped, coerced or guessed.
 */
export function parseDefinition(value: unknown): Definition {
  const oversize = oversizeFault(value)
  if (oversize) throw new InvalidDefinition([oversize])
  const faults = [...toFaults(validate(value)), ...contradictions(value)]
  if (faults.length > 0) throw new InvalidDefinition(faults)
  const definition = withDefaults(written, value) as Definition
  const { resources } = definition
  return { ...definition, resources: { ...resources, gpu: resources.gpu || resources.gpuMemory !== undefined } }
}
