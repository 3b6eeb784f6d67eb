import type { ByteSource, DatasetDescription, ImageShape } from '../data/dataset.ts'
import { stepsPerEpoch } from '../data/loader.ts'
import { Damaged, type Fault, InvalidDefinition, NotFound } from '../errors.ts'
import type { Ability, MethodPlan } from '../models/method.ts'
import type { NetPlan } from '../models/nets/net.ts'
import { optimizers } from '../models/training/optimizer.ts'
import { epochsOf } from '../models/training/stages.ts'
import { type ChosenUnits, chosenUnits } from './chosen.ts'
import { checkCourse, courseOf, stepFaults } from './course.ts'
import type { Definition } from './definition.ts'
import { checkExpected } from './expected.ts'
import type { From, Origins } from './from.ts'
import { checkResources } from './placement.ts'
import { checkFrom, planStart, type StartPlan } from './start.ts'
import { checkViews } from './views.ts'

/** What an experiment will do and need. Sizes are in bytes. */
export interface Plan {
  /** Every default in place. */
  definition: Definition
  runs: number
  images: { train: number; test: number }
  imageShape: ImageShape
  classes: number
  /** The stages of the training with their epochs; one without a name where the method has none. */
  stages: { name: string; epochs: number }[]
  /** Of all stages together; 0 where the method takes no gradient step. */
  epochs: number
  stepsPerEpoch: number
  steps: number
  /** Learned numbers. */
  weights: number
  /** Of one image's forward pass. */
  multiplyAddsPerImage: number
  /** The net's named activations in order, each by its shape without the batch. */
  taps: Record<string, readonly number[]>
  /** Of the process that trains, at its highest; see `expectMemory`. An estimate. */
  memoryBytes: number
  /** Of all that a run leaves: checkpoints, embeddings, metrics; see `expectDisk`. An estimate. */
  diskBytes: number
  /** Of one checkpoint without its header. */
  checkpointBytes: number
  embeddingDimension: number
  /** What is taken from where the definition starts; absent where all weights are drawn. */
  start?: StartPlan
}

const float = 4

/** What Node.js and the onnx engine with its compiled graphs take once they have run a while, in bytes (measured). */
const processBytes = 500 * 2 ** 20

/** What is not collected yet or kept for the next step, as a share of what is in use (measured). */
const slack = 0.75

/**
 * How often a batch's numbers at all taps are held in a step: measured 1.9 to 3.2 with machine code and 0.9 to 1.7
 * with ONNX Runtime, the less the larger the batch; where it is more, the process' share covers it.
 */
const activationsHeld = 2.5

/** The newest two and the final one. */
const checkpointsKept = 3

/** A metric point with its index, and a step's share of the rollup; about four values are reported a step. */
const metricBytesPerStep = 4 * 120

function within(faults: Fault[], prefix: string, found: readonly Fault[]): void {
  for (const fault of found) faults.push({ pointer: `${prefix}${fault.pointer}`, detail: fault.detail })
}

/** Runs one part of the planning; its faults join the others, so that all are told at once. */
async function attempt<T>(faults: Fault[], prefix: string, part: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await part()
  } catch (error) {
    if (error instanceof InvalidDefinition) within(faults, prefix, error.faults)
    else if (error instanceof NotFound || error instanceof Damaged)
      faults.push({ pointer: `${prefix}/name`, detail: `${error.message}; ${error.cure}` })
    else throw error
    return undefined
  }
}

/** What a dataset is called in words: of sets of one's own, with the name of the set. */
function called({ unit, parameters }: ChosenUnits['dataset']): string {
  const { set } = parameters as { set?: string }
  return set === undefined ? unit.name : `${unit.name}/${set}`
}

function checkAbilities(faults: Fault[], units: ChosenUnits, net: NetPlan | undefined, classes: number): void {
  const labels: Ability[] = classes > 0 ? ['labels'] : []
  const there = new Set<Ability>([...labels, ...(net?.abilities ?? []), ...units.method.unit.abilities])
  const check = (pointer: string, { name, requires = [] }: { name: string; requires?: readonly Ability[] }) => {
    for (const ability of requires) {
      // What a net offers is not known when it could not be planned; that fault is told already.
      if (there.has(ability) || (!net && ability !== 'labels')) continue
      const lacking = ability === 'labels' ? `dataset '${called(units.dataset)}' has none` : 'net and method offer none'
      faults.push({ pointer, detail: `'${name}' needs ${ability}, and ${lacking}` })
    }
  }
  check('/method/name', units.method.unit)
  units.evaluations.forEach(({ unit }, i) => {
    check(`/evaluations/${i}/name`, unit)
  })
}

function checkWorld(faults: Fault[], definition: Definition, units: ChosenUnits, corpus: DatasetDescription): void {
  const { batchSize } = definition.training
  const size = corpus.size.train
  const world = { size, classes: corpus.classes, batchSize }
  const { method } = units
  within(faults, '/method', method.unit.check?.(method.parameters, world) ?? [])
  units.evaluations.forEach(({ unit, parameters }, i) => {
    within(faults, `/evaluations/${i}`, unit.check?.(parameters, { ...world, testSize: corpus.size.test }) ?? [])
  })
}

function numbers(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1)
}

/** What an evaluation holds at its highest; they run one after the other. */
function evaluating(units: ChosenUnits, corpus: DatasetDescription, net: NetPlan, method: MethodPlan): number {
  const { size, imageShape } = corpus
  const world = { images: size.train + size.test, imageShape, taps: net.taps, dimension: method.dimension }
  return Math.max(0, ...units.evaluations.map(({ unit, parameters }) => unit.memoryBytes?.(parameters, world) ?? 0))
}

/**
 * The process; a batch's activations, as so many times all taps and what the method makes beside them, which lie in the
 * GPU's memory where the run asks for one; and with a slack
 * the dataset's own memory and, since not everything is given back in between, both training (weights, gradients and
 * optimiser slots, what the method remembers, five prepared batches) and what evaluations hold.
 */
function expectMemory(
  definition: Definition,
  units: ChosenUnits,
  corpus: DatasetDescription,
  { net, method, epochs }: { net: NetPlan; method: MethodPlan; epochs: number },
): number {
  const { batchSize, accumulate } = definition.training
  const taps = Object.values(net.taps).reduce((sum, tap) => sum + numbers(tap), 0)
  const activations = taps + (method.activations ?? 0)
  const training =
    method.weights * float * (2 + slots(definition, epochs) + (accumulate > 1 ? 1 : 0)) +
    method.memoryBytes +
    (method.surveyBytes ?? 0) +
    batchSize * float * (5 * numbers(corpus.imageShape) + 3 * method.dimension)
  const kept = (corpus.memoryBytes ?? 0) + training + evaluating(units, corpus, net, method)
  const held = definition.resources.gpu ? 0 : activationsHeld * batchSize * float * activations
  return Math.round(processBytes + held + (1 + slack) * kept)
}

/** What a run leaves, in numbers: bytes of a checkpoint, numbers of an embedding, steps with their metrics. */
interface Kept {
  checkpointBytes: number
  dimension: number
  steps: number
}

/** Checkpoints kept, the embeddings of all images as safetensors and as .npy with ids and labels, and the metrics. */
function expectDisk(definition: Definition, corpus: DatasetDescription, kept: Kept): number {
  const { checkpointBytes, dimension, steps } = kept
  const images = corpus.size.train + corpus.size.test
  const number = definition.embeddings.dtype === 'f16' ? float / 2 : float
  return checkpointsKept * checkpointBytes + images * (2 * dimension * number + 16) + steps * metricBytesPerStep
}

/** Numbers beside each learned one: what the optimiser remembers, and the average. */
function slots({ training: { optimizer, averaging } }: Definition, epochs: number): number {
  if (epochs === 0) return 0
  return optimizers[optimizer.name].slotsPerWeight(optimizer as never) + (averaging > 0 ? 1 : 0)
}

/** What the definition starts from, judged by its header; undefined where it names nothing, or nothing can be asked. */
async function findStart(
  faults: Fault[],
  definition: Definition,
  net: NetPlan,
  classes: number,
  origins: Origins | undefined,
): Promise<{ from: From; start: StartPlan } | undefined> {
  const { from } = definition
  const misnamed = from ? checkFrom(from) : []
  faults.push(...misnamed)
  if (!from || !origins || misnamed.length > 0) return undefined
  try {
    return planStart({ ...definition, from }, net, await origins.find(from), classes)
  } catch (error) {
    if (error instanceof InvalidDefinition) faults.push(...error.faults)
    else if (error instanceof NotFound || error instanceof Damaged)
      faults.push({ pointer: '/from', detail: `${error.message}; ${error.cure}` })
    else throw error
    return undefined
  }
}

/**
 * What will run and what it will need: arithmetic on shapes, no tensor is made. Throws InvalidDefinition with every
 * impossible pair, a missing dataset included. With `origins` the definition in the plan says by digest what it starts
 * from; without, that is left to whoever knows them.
 */
export async function planExperiment(asked: Definition, bytes: ByteSource, origins?: Origins): Promise<Plan> {
  const faults: Fault[] = []
  const units = chosenUnits(asked)
  faults.push(...checkExpected(asked.expected, asked.evaluations), ...checkResources(asked))
  const { dataset, net, method } = units
  const corpus = await attempt(faults, '/dataset', () => dataset.unit.describe(dataset.parameters, bytes))
  const netPlan = corpus && (await attempt(faults, '/net', () => net.unit.plan(net.parameters, corpus.imageShape)))
  const begin = netPlan && (await findStart(faults, asked, netPlan, corpus.classes, origins))
  const definition = begin ? { ...asked, from: begin.from } : asked
  const stages = await attempt(faults, '', () => {
    checkCourse(definition, units)
    return courseOf(definition, units)
  })
  if (corpus) {
    if (stages && !method.unit.fitted) faults.push(...stepFaults(definition, corpus.size.train, stages))
    checkAbilities(faults, units, netPlan, corpus.classes)
    checkWorld(faults, definition, units, corpus)
    within(faults, '', checkViews(definition, units, corpus.imageShape))
  }
  const world = corpus && netPlan && { net: netPlan, size: corpus.size.train, classes: corpus.classes }
  const methodPlan = world && (await attempt(faults, '/method', () => method.unit.plan(method.parameters, world)))
  if (faults.length > 0 || !stages || !corpus || !netPlan || !methodPlan) throw new InvalidDefinition(faults)

  const { batchSize, accumulate } = definition.training
  const perEpoch = stepsPerEpoch(corpus.size.train, batchSize * accumulate)
  const epochs = epochsOf(stages)
  const steps = perEpoch * epochs
  const checkpointBytes = methodPlan.weights * float * (1 + slots(definition, epochs)) + methodPlan.memoryBytes
  return {
    definition,
    runs: 1,
    images: { ...corpus.size },
    imageShape: corpus.imageShape,
    classes: corpus.classes,
    stages: stages.map(({ name, epochs }) => ({ name, epochs })),
    epochs,
    stepsPerEpoch: perEpoch,
    steps,
    weights: methodPlan.weights,
    multiplyAddsPerImage: methodPlan.multiplyAdds,
    taps: netPlan.taps,
    memoryBytes: expectMemory(definition, units, corpus, { net: netPlan, method: methodPlan, epochs }),
    diskBytes: expectDisk(definition, corpus, { checkpointBytes, dimension: methodPlan.dimension, steps }),
    checkpointBytes,
    embeddingDimension: methodPlan.dimension,
    ...(begin ? { start: begin.start } : {}),
  }
}

/** Refuses what can be planned but not run. */
export function assertRunnable(definition: Definition): void {
  const { absent } = chosenUnits(definition).dataset.unit
  if (absent) throw new InvalidDefinition([{ pointer: '/dataset/name', detail: absent }])
}
