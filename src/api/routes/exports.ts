import { createReadStream } from 'node:fs'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { InvalidDefinition, NotFound } from '../../errors.ts'
import type { Plan } from '../../experiments/plan.ts'
import { exportCheckpoint } from '../../jobs/export.ts'
import type { ToExportChild } from '../../jobs/messages.ts'
import { presets } from '../../models/weights/presets.ts'
import type { CheckpointRow } from '../../store/ledger.ts'
import { disposition } from '../files.ts'
import type { Log, Parts } from '../parts.ts'
import { findExperiment, findRun, idParameters } from '../resources.ts'
import { answers } from './answers.ts'

const query = Type.Object(
  {
    as: Type.Enum(['safetensors', 'onnx'], { description: 'The weights, or a graph that makes features of images.' }),
    tap: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 100 }), {
        maxItems: 32,
        description: 'Of onnx: activations to make, each an output of that name; the embedding where none is named.',
      }),
    ),
    names: Type.Optional(
      Type.Enum(Object.keys(presets), { description: 'Of safetensors: whose names to use; our own where absent.' }),
    ),
  },
  { additionalProperties: false },
)

type Asked = Static<typeof query>
type Address = { Params: { id: string }; Querystring: Asked }

const description =
  "safetensors: weights and statistics without the optimiser's slots. onnx: a graph from `images`, floats [batch, height, width, channels] in [0, 1], to the activations at the taps; whatever is done to images before the first layer is in it."

const bytes = { description: 'The file.', content: { 'application/octet-stream': { schema: {} } } }
const schema = {
  ...{ tags: ['files'], description, params: idParameters, querystring: query },
  response: { 200: bytes, ...answers(400, 404, 503) },
}

function checkAsked({ as, tap, names }: Asked): void {
  const faults = []
  if (as === 'safetensors' && tap) faults.push({ pointer: '/tap', detail: 'is for onnx; safetensors hold all weights' })
  if (as === 'onnx' && names) faults.push({ pointer: '/names', detail: 'is for safetensors' })
  if (faults.length > 0) throw new InvalidDefinition(faults, 'the query')
}

async function taskFor(parts: Parts, checkpoint: CheckpointRow, asked: Asked): Promise<Omit<ToExportChild, 'file'>> {
  const run = await findRun(parts, checkpoint.runId)
  const plan = (await findExperiment(parts, run.experimentId)).plan as Plan
  const { net, method, dataset } = run.definition as Plan['definition']
  const { home, s3, secret, publicUrl } = parts.config
  const { key, size, sha256, step } = checkpoint
  return {
    as: asked.as as ToExportChild['as'],
    definition: run.definition,
    world: { imageShape: plan.imageShape, size: plan.images.train, classes: plan.classes },
    checkpoint: { key, size, fileSha256: sha256 },
    taps: asked.tap ?? [],
    names: asked.names,
    facts: {
      'gestalt.run': run.id,
      'gestalt.checkpoint': checkpoint.id,
      'gestalt.sha256': sha256,
      'gestalt.step': String(step),
      'gestalt.method': method.name,
      'gestalt.net': JSON.stringify(net),
      'gestalt.dataset': dataset.name,
      'gestalt.version': parts.version,
    },
    config: { home, s3, secret, publicUrl },
  }
}

/** Lines of the child process are for those who look closely. */
const childLog = (log: Log) => ({
  info: (text: string) => log.debug(text),
  warn: (text: string) => log.debug(text),
  error: (text: string) => log.error(text),
})

async function send(
  request: FastifyRequest<Address>,
  reply: FastifyReply,
  parts: Parts,
  checkpoint: CheckpointRow,
): Promise<FastifyReply> {
  checkAsked(request.query)
  const gone = new AbortController()
  reply.raw.once('close', () => gone.abort())
  const task = await taskFor(parts, checkpoint, request.query)
  const options = { environment: parts.environment ?? {}, log: childLog(request.log), signal: gone.signal }
  const { file, size, remove } = await exportCheckpoint(task, options)
  const stream = createReadStream(file)
  stream.once('close', () => void remove())
  if (gone.signal.aborted) stream.destroy()
  const name = `${checkpoint.runId}-step-${checkpoint.step}.${task.as}`
  reply.header('content-disposition', disposition(name)).header('content-length', size)
  return reply.type('application/octet-stream').send(stream)
}

/** GET /v1/checkpoints/:id/export and /v1/runs/:id/export. */
export function serveExports(app: FastifyInstance, parts: Parts): void {
  const { ledger } = parts
  const route = { schema, exposeHeadRoute: false }
  app.get<Address>(
    '/v1/checkpoints/:id/export',
    { ...route, schema: { ...schema, summary: 'A checkpoint for use elsewhere' } },
    async (request, reply) => {
      const { id } = request.params
      const checkpoint = await ledger.checkpoint(id)
      if (checkpoint) return send(request, reply, parts, checkpoint)
      throw new NotFound(`there is no checkpoint '${id.slice(0, 100)}'`, 'GET /v1/runs/:id lists those of a run')
    },
  )
  app.get<Address>(
    '/v1/runs/:id/export',
    { ...route, schema: { ...schema, summary: "A run's final or newest checkpoint for use elsewhere" } },
    async (request, reply) => {
      const run = await findRun(parts, request.params.id)
      const all = (await ledger.checkpoints([run.id])).get(run.id) ?? []
      const checkpoint = all.find(({ final }) => final) ?? all[0]
      if (checkpoint) return send(request, reply, parts, checkpoint)
      throw new NotFound(`run ${run.id} has no checkpoint yet`, 'wait until it has taken some steps')
    },
  )
}
