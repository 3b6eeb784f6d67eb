import { compareExpected, curveOf, type Expected } from '../../experiments/expected.ts'
import type { From } from '../../experiments/from.ts'
import { listUnits, type UnitKind } from '../../experiments/units.ts'
import { whyWaiting } from '../../experiments/waiting.ts'
import type { ImageSet } from '../../store/image-sets.ts'
import type { Artifact, CheckpointRow, EmbeddingSet, Experiment, Run } from '../../store/ledger.ts'
import { type AskedFilter, readFilter } from '../filters.ts'
import { findExperiment, findRun } from '../resources.ts'
import { setResource } from '../sets.ts'
import { judgeDefinition, submitExperiment } from '../submit.ts'
import { connectionFields, type PageArguments, readPageArguments, toConnection } from './connection.ts'
import type { GraphQLParts } from './context.ts'
import { between, type CurveArguments, curveObject, readCurveArguments } from './curves.ts'
import type { Resolvers } from './schema.ts'
import { subscriptions } from './subscriptions.ts'

const fields = { CREATED_AT: 'createdAt', NAME: 'name', PRIORITY: 'priority', FINISHED_AT: 'finishedAt' } as const
type Field = keyof typeof fields

interface ListArguments<By extends Field> extends PageArguments {
  filter?: AskedFilter | null
  order?: { by: By; direction: 'ASC' | 'DESC' } | null
}

function readOrder<By extends Field>(order: ListArguments<By>['order']) {
  const { by, direction } = order ?? { by: 'CREATED_AT' as By, direction: 'DESC' }
  return { by: fields[by], direction: direction === 'ASC' ? ('asc' as const) : ('desc' as const) }
}

const lists: Resolvers[string] = {
  async experiments(_root: unknown, asked: ListArguments<Exclude<Field, 'FINISHED_AT'>>, { ledger }) {
    const { first, after } = readPageArguments(asked)
    const { experimentId: _, ...filter } = readFilter(asked.filter ?? {})
    const page = await ledger.listExperiments({ filter, order: readOrder(asked.order), first, after })
    return toConnection(page, after, () => ledger.countExperiments(filter))
  },
  async runs(_root: unknown, asked: ListArguments<Field>, { ledger }) {
    const { first, after } = readPageArguments(asked)
    const filter = readFilter(asked.filter ?? {})
    const page = await ledger.listRuns({ filter, order: readOrder(asked.order), first, after })
    return toConnection(page, after, () => ledger.countRuns(filter))
  },
  async imageSets(_root: unknown, asked: PageArguments, { sets }) {
    const { first, after } = readPageArguments(asked)
    return toConnection(await sets.list({ first, after }), after, () => sets.count())
  },
}

/** A value of its manifest, or its row. */
function ofSet(name: 'images' | 'unlabelled' | 'classes' | 'sequences' | 'shapes' | 'bytes' | 'shards') {
  return (set: ImageSet) => setResource(set)[name]
}

function units(kind: UnitKind) {
  return () => listUnits(kind).map((unit) => ({ ...unit, source: unit.paper ?? unit.source ?? null }))
}

const mutations: Resolvers[string] = {
  async submitExperiment(
    _root: unknown,
    asked: { definition: unknown; idempotencyKey?: string | null; dryRun?: boolean | null },
    parts,
  ) {
    if (asked.dryRun) {
      const plan = await judgeDefinition(parts, asked.definition)
      return { experimentId: null, runs: [], plan, replayed: false }
    }
    const key = asked.idempotencyKey ?? undefined
    const { experimentId, runIds, plan, replayed } = await submitExperiment(parts, asked.definition, {
      key,
      log: parts.log,
      span: parts.span,
    })
    const runs = await parts.ledger.runs([...runIds])
    return { experimentId, runs: [...runs.values()], plan, replayed }
  },
  async cancelRun(_root: unknown, { id }: { id: string }, parts) {
    const run = await findRun(parts, id)
    return parts.ledger.requestCancel(run.id)
  },
}

/** A list of a run, loaded together with those of the other runs in the answer. */
type PerRun = 'attempts' | 'checkpoints' | 'artifacts' | 'findings' | 'embeddings'
function ofRun(name: PerRun) {
  return async (run: Run, _asked: unknown, { loaders }: GraphQLParts) => (await loaders[name](run.id, undefined)) ?? []
}

/** What the definition expects beside what the run came to; curves count from the beginning of the last epoch. */
async function expectations(run: Run, _asked: unknown, { loaders }: GraphQLParts) {
  const { expected = [] } = run.definition as { expected?: Expected[] }
  if (expected.length === 0) return []
  const { steps = 0, epochs = 1 } = (run.progress ?? {}) as { steps?: number; epochs?: number }
  const from = steps - Math.floor(steps / Math.max(1, epochs))
  const names = [...new Set(expected.flatMap((each) => curveOf(each) ?? []))]
  const curves = names.length > 0 ? await loaders.curves(run.id, { names, from, maxPoints: 10_000 }) : []
  return compareExpected(expected, (await loaders.findings(run.id, undefined)) ?? [], curves ?? [])
}

const run: Resolvers[string] = {
  from: ({ definition }: Run) => (definition as { from?: From } | null)?.from ?? null,
  async waiting(run: Run, _asked: unknown, { loaders }) {
    if (run.state !== 'queued') return null
    const attempts = run.attempt > 0 ? loaders.attempts(run.id, undefined) : undefined
    return whyWaiting(run.needs, (await loaders.workers('all', undefined)) ?? [], (await attempts)?.at(-1))
  },
  experiment: (run: Run, _asked: unknown, { loaders }) => loaders.experiment(run.experimentId, undefined),
  attempts: ofRun('attempts'),
  checkpoints: ofRun('checkpoints'),
  artifacts: ofRun('artifacts'),
  findings: ofRun('findings'),
  embeddings: ofRun('embeddings'),
  expectations,
  log: async (run: Run, { last }: { last?: number | null }, { loaders }) =>
    (await loaders.log(run.id, between('last', last ?? 100, 1, 10_000))) ?? [],
  samples: async (run: Run, { last }: { last?: number | null }, { loaders }) =>
    (await loaders.samples(run.id, between('last', last ?? 100, 1, 10_000))) ?? [],
  metrics: async (run: Run, asked: CurveArguments, { loaders }) =>
    ((await loaders.curves(run.id, readCurveArguments(asked))) ?? []).map(curveObject),
}

/** What a run starts from, and the run that made it. */
const start: Resolvers[string] = {
  checkpoint: ({ checkpoint }: From, _asked: unknown, { loaders }) =>
    checkpoint === undefined ? null : loaders.checkpoint(checkpoint, undefined),
  async run({ checkpoint }: From, _asked: unknown, { loaders }) {
    const row = checkpoint === undefined ? undefined : await loaders.checkpoint(checkpoint, undefined)
    return row ? loaders.run(row.runId, undefined) : null
  },
}

/** Only what is not simply a field of the row. */
export const resolvers: Resolvers = {
  Query: {
    ...lists,
    experiment: (_root: unknown, { id }: { id: string }, parts) => findExperiment(parts, id),
    run: (_root: unknown, { id }: { id: string }, parts) => findRun(parts, id),
    methods: units('methods'),
    nets: units('nets'),
    datasets: units('datasets'),
    evaluations: units('evaluations'),
    imageSet: (_root: unknown, { name }: { name: string }, { sets }) => sets.find(name),
    workers: (_root: unknown, _asked: unknown, { ledger }) => ledger.workers(),
    queue: (_root: unknown, _asked: unknown, { queue }) => queue.counts(),
  },
  Mutation: mutations,
  Subscription: subscriptions,
  ExperimentConnection: connectionFields,
  RunConnection: connectionFields,
  ImageSetConnection: connectionFields,
  ImageSet: {
    ...Object.fromEntries(
      (['images', 'unlabelled', 'classes', 'sequences', 'shapes', 'bytes', 'shards'] as const).map((name) => [
        name,
        ofSet(name),
      ]),
    ),
    preview: ({ name }: ImageSet, _asked: unknown, { config }) =>
      `${config.publicUrl}/v1/datasets/sets/${name}/preview`,
  },
  Submission: {
    experiment: ({ experimentId }: { experimentId: string | null }, _asked: unknown, parts) =>
      experimentId === null ? null : findExperiment(parts, experimentId),
  },
  Experiment: {
    runs: async (experiment: Experiment, _asked: unknown, { loaders }) =>
      (await loaders.runsOfExperiment(experiment.id, undefined)) ?? [],
  },
  Run: run,
  Start: start,
  Checkpoint: {
    url: ({ id }: CheckpointRow, _asked: unknown, { config }) => `${config.publicUrl}/v1/checkpoints/${id}`,
  },
  Artifact: { url: ({ id }: Artifact, _asked: unknown, { config }) => `${config.publicUrl}/v1/artifacts/${id}` },
  EmbeddingSet: {
    files: ({ files }: EmbeddingSet, _asked: unknown, { config }) =>
      Object.entries(files).map(([role, id]) => ({ role, url: `${config.publicUrl}/v1/artifacts/${id}` })),
  },
}
