import { migrate } from '../../src/store/migrate.ts'
import { type ApiProcess, type Cluster, openCluster } from '../chaos/cluster.ts'
import { hasS3, startServer } from '../s3.ts'
import { readCompose } from './compose.ts'
import { hasRedis, type PostgresService, startPostgresService, startRedisService } from './services.ts'

/** Whether there are the programs that docker-compose.yml starts, or those that stand for them. */
export const canDeploy = hasRedis && hasS3

/** The services of docker-compose.yml as processes of this machine, with its environment and other addresses. */
export interface Deployment extends Cluster {
  token: string
  postgres: PostgresService
  redis: Awaited<ReturnType<typeof startRedisService>>
  /** With the token; JSON in and out. Throws what the server says where that is no success. */
  ask<Answer>(api: ApiProcess, path: string, body?: unknown): Promise<Answer>
  query<Data>(api: ApiProcess, query: string, variables?: object): Promise<Data>
}

export async function deploy(): Promise<Deployment> {
  const token = 'a-token-for-the-tests'
  const postgres = await startPostgresService()
  const values = {
    POSTGRES_PASSWORD: decodeURIComponent(new URL(postgres.url).password),
    MINIO_ROOT_PASSWORD: 'a-password-for-the-tests',
    GESTALT_TOKEN: token,
    GRAFANA_PASSWORD: 'another-password',
    GRAFANA_DATABASE_PASSWORD: 'a-third-password',
  }
  const services = readCompose(values)
  const { environment } = services.worker!
  const redis = await startRedisService(services.redis!.command)
  const keys = {
    accessKey: services.minio!.environment.MINIO_ROOT_USER!,
    secretKey: services.minio!.environment.MINIO_ROOT_PASSWORD!,
    bucket: environment.S3_BUCKET!,
  }
  const s3 = await startServer({ keys })
  const addresses = { postgres: postgres.port, redis: redis.port, minio: s3.config.port }
  const here = (given: Record<string, string>) =>
    Object.fromEntries(Object.entries(given).map(([name, value]) => [name, placed(value, addresses)]))
  await migrate(here(environment).DATABASE_URL!)
  const cluster = await openCluster(here(environment).DATABASE_URL!, here(environment))
  const ask = async <Answer>({ url }: ApiProcess, path: string, body?: unknown): Promise<Answer> => {
    const response = await fetch(new URL(path, url), {
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`)
    return JSON.parse(text) as Answer
  }
  return {
    ...cluster,
    ...{ token, postgres, redis, ask },
    // Each has a port of its own here, as each container has.
    startApi: (more) => cluster.startApi({ ...here(services.api!.environment), GESTALT_METRICS_PORT: '0', ...more }),
    async query<Data>(api: ApiProcess, query: string, variables: object = {}) {
      const { data, errors } = await ask<{ data: Data; errors?: unknown }>(api, '/graphql', { query, variables })
      if (errors) throw new Error(JSON.stringify(errors))
      return data
    },
    async close() {
      redis.thaw()
      await redis.start() // where a test left it stopped, closing would wait for it
      await cluster.close()
      s3.stop()
      await redis.close()
      await postgres.close()
    },
  }
}

/** 'redis://redis:6379' where Redis listens on port 1234 here: 'redis://127.0.0.1:1234'. */
function placed(value: string, addresses: Record<string, number>): string {
  const url = URL.canParse(value) ? new URL(value) : undefined
  const port = url && addresses[url.hostname]
  return url && port ? value.replace(url.host, `127.0.0.1:${port}`) : value
}
