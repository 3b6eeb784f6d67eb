import type { Corpus, ImageShape } from '../../src/data/dataset.ts'
import { shapes } from '../../src/data/shapes.ts'
import { memoryBytes } from '../../src/experiments/memory-context.ts'
import { asWritten, type Schema, withDefaults } from '../../src/experiments/schema.ts'
import type { Learner, Method } from '../../src/models/method.ts'
import type { Net } from '../../src/models/nets/net.ts'
import { small } from '../../src/models/nets/small.ts'

/** What a schema's defaults are, as a definition would have them. */
export function defaultsOf(schema: unknown, given: Record<string, unknown> = {}): Record<string, unknown> {
  return withDefaults(asWritten(schema as Schema), given) as Record<string, unknown>
}

/** Drawn images of 12 x 12, 4 classes. */
export async function tinyCorpus(images = 48, testImages = 16): Promise<Corpus> {
  const wanted = { images, testImages, classes: 4, height: 12, width: 12, clutter: 0 }
  return shapes.open(defaultsOf(shapes.parameters, wanted) as never, memoryBytes())
}

/** A small net with its defaults, but for what is given. */
export function buildSmall(given: Record<string, unknown>, imageShape: ImageShape, seed: number): Net {
  return small.build(defaultsOf(small.parameters, given) as never, imageShape, seed)
}

/** A method with its defaults, but for what is given, on a net of two layers. */
export function buildTiny(
  method: unknown,
  given: Record<string, unknown>,
  { train }: Corpus,
  seed = 3,
): { learner: Learner; method: Method; parameters: Record<string, unknown> } {
  const unit = method as Method
  const parameters = defaultsOf(unit.parameters, given)
  const { imageShape, size, classes } = train
  const net = buildSmall({ widths: [4, 6] }, imageShape, seed)
  return { learner: unit.build(parameters, { net, imageShape, size, classes, seed }), method: unit, parameters }
}
