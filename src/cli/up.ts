import type { Config } from '../config.ts'
import { Misconfigured } from '../errors.ts'
import { grantReader } from '../store/lab-reader.ts'
import { migrate } from '../store/migrate.ts'
import type { Output } from './output.ts'
import { askedToStop } from './serve.ts'
import { startStack } from './stack.ts'

/** Serves everything on this machine until it is told to stop. Returns the exit code. */
export async function up(config: Config, output: Output): Promise<number> {
  const halt = askedToStop()
  const stack = await startStack(config, output.say)
  output.result({ url: stack.url, home: config.home }, ({ url, home }) =>
    [
      `serving at ${url}`,
      `  playground  ${url}/graphiql`,
      `  API docs    ${url}/docs`,
      `  state       ${home}`,
      `  logs        ${home}/logs`,
      'Ctrl-C stops it',
    ].join('\n'),
  )
  const broken = stack.broken.then((reason) => ({ reason }))
  const ending = await Promise.race([halt, broken])
  output.say(`stopping: ${typeof ending === 'string' ? ending : ending.reason}`)
  await stack.stop()
  return typeof ending === 'string' ? 0 : 1
}

/** Applies the migrations that a database lacks, and makes the role of the dashboards. Returns the exit code. */
export async function migrateDatabase(
  config: Config,
  output: Output,
  { grafanaRole }: { grafanaRole?: string } = {},
): Promise<number> {
  if (!config.databaseUrl)
    throw new Misconfigured(
      'DATABASE_URL is not set',
      "name the database, as in postgresql://user:password@host:5432/gestalt; 'gestalt up' migrates its own",
    )
  const applied = await migrate(config.databaseUrl)
  if (grafanaRole !== undefined) await grantReader(config.databaseUrl, grafanaRole)
  output.result({ applied, grafanaRole }, () =>
    [
      applied.length ? `applied ${applied.join(', ')}` : 'nothing to apply',
      ...(grafanaRole === undefined ? [] : [`the role ${grafanaRole} may read the views of the dashboards`]),
    ].join('\n'),
  )
  return 0
}
