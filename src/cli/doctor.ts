import { availableParallelism, totalmem } from 'node:os'
import { type Config, childEnvironment, softwareVersion } from '../config.ts'
import { describeMake, type EngineChoice } from '../engine/choice.ts'
import { GestaltError, Unavailable } from '../errors.ts'
import type { RejectedEngine } from '../experiments/run.ts'
import { connectRedis, late } from '../jobs/backends.ts'
import { probeAllEngines } from '../jobs/probe.ts'
import { openDatabase } from '../store/database.ts'
import { pendingMigrations } from '../store/migrate.ts'
import { openObjects } from '../store/open-objects.ts'
import { type Output, size } from './output.ts'

/** What a check found: it works as `facts` say, or not, with what to do. */
type Finding<Facts> = ({ works: true } & Facts) | { works: false; reason: string; cure: string }

type EngineFinding = { candidate: string } & Finding<{
  name: string
  version: string
  threads: number
  device: string
  selfTestMilliseconds: number
}>

/** `works` is null where the settings name no service, so that none can be away. */
type ServiceFinding = { service: string } & (Finding<{ place: string }> | { works: null; place: string })

/** All that `gestalt doctor` finds. */
interface Report {
  version: string
  node: string
  platform: string
  cores: number
  memoryBytes: number
  engines: EngineFinding[]
  /** What GESTALT_ENGINE asks for. */
  wanted: Config['engine']
  /** What GESTALT_GPU asks for. */
  gpu: string | null
  /** The candidate that a worker with these settings would compute on. */
  chosen: string | null
  services: ServiceFinding[]
}

const patienceMilliseconds = 10_000
const silent = { info() {}, warn() {}, error() {} }

function engineFinding(found: EngineChoice | RejectedEngine): EngineFinding {
  if ('reason' in found) return { candidate: found.engine, works: false, reason: found.reason, cure: found.cure }
  const selfTestMilliseconds = Math.round(found.selfTestMilliseconds)
  return { candidate: found.candidate, works: true, ...found.engine, selfTestMilliseconds }
}

async function examine(service: string, place: string, check: () => Promise<unknown>): Promise<ServiceFinding> {
  try {
    await Promise.race([check(), late(patienceMilliseconds)])
    return { service, works: true, place }
  } catch (error) {
    const cure = error instanceof GestaltError ? error.cure : 'start it, or correct the settings'
    return { service, works: false, reason: (error as Error).message, cure }
  }
}

async function checkDatabase(url: string): Promise<void> {
  await (await openDatabase({ url, max: 1, name: 'gestalt-doctor' })).close()
  const pending = await pendingMigrations(url)
  if (pending.length > 0)
    throw new Unavailable(`it lacks the migrations ${pending.join(', ')}`, "run 'gestalt migrate'")
}

/** What a server and its workers would find of Postgres, Redis and the object store. */
export function examineServices({ databaseUrl, redisUrl, s3, ...config }: Config): Promise<ServiceFinding[]> {
  return Promise.all([
    databaseUrl
      ? examine('Postgres', 'DATABASE_URL', () => checkDatabase(databaseUrl))
      : { service: 'Postgres', works: null, place: "embedded, brought by 'gestalt up'" },
    redisUrl
      ? examine('queue', 'Redis', async () => (await connectRedis(redisUrl, () => {})).disconnect())
      : { service: 'queue', works: null, place: 'in Postgres' },
    examine('object store', s3 ? `S3 at ${s3.endPoint}` : `a directory in ${config.home}`, () =>
      openObjects({ ...config, s3 }).check(),
    ),
  ])
}

function engineLines(finding: EngineFinding): string[] {
  const name = finding.candidate.padEnd(15)
  if (!finding.works) return [`  ${name} no     ${finding.reason}`, `${' '.repeat(25)}${finding.cure}`]
  return [`  ${name} works  ${describeMake(finding)}, self-test ${finding.selfTestMilliseconds} ms`]
}

export function serviceLines(finding: ServiceFinding): string[] {
  const name = finding.service.padEnd(15)
  if (finding.works === false) return [`  ${name} no     ${finding.reason}`, `${' '.repeat(25)}${finding.cure}`]
  return [`  ${name} ${finding.works ? 'works' : '     '}  ${finding.place}`]
}

function words(report: Report): string {
  const { version, node, platform, cores, memoryBytes, engines, wanted, gpu, chosen, services } = report
  const otherwise = wanted === 'auto' ? '' : `: set GESTALT_ENGINE=auto${gpu === null ? '' : ', and no GESTALT_GPU'}`
  return [
    `Gestalt ${version}, Node ${node}, ${platform}, ${cores} cores, ${size(memoryBytes)} memory`,
    'Engines, the fastest first:',
    ...engines.flatMap(engineLines),
    `A worker with GESTALT_ENGINE=${wanted}${gpu === null ? '' : ` and GESTALT_GPU=${gpu}`} computes on: ${
      chosen ?? `none, so no worker starts${otherwise}`
    }`,
    'Services:',
    ...services.flatMap(serviceLines),
  ].join('\n')
}

/** Tries every engine and asks every service. Returns the exit code: 0 where a worker would find an engine. */
export async function doctor(config: Config, output: Output): Promise<number> {
  const threads = config.engineThreads
  const [found, services] = await Promise.all([
    probeAllEngines({
      threads,
      gpu: config.gpu,
      places: config.enginePlaces,
      environment: childEnvironment(threads),
      log: silent,
    }),
    examineServices(config),
  ])
  const engines = found.map(engineFinding)
  const fits = (finding: EngineFinding) => finding.works && [finding.name, 'auto'].includes(config.engine)
  const report: Report = {
    ...{ version: softwareVersion(), node: process.versions.node, platform: `${process.platform} ${process.arch}` },
    ...{ cores: availableParallelism(), memoryBytes: totalmem() },
    ...{
      engines,
      wanted: config.engine,
      gpu: config.gpu.choice ?? null,
      chosen: engines.find(fits)?.candidate ?? null,
      services,
    },
  }
  output.result(report, words)
  return report.chosen ? 0 : 1
}
