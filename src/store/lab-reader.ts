import type pg from 'pg'
import { Misconfigured } from '../errors.ts'
import { connected } from './migrate.ts'

/** A panel that takes longer asks too much. */
const settings = { statement_timeout: '15s', default_transaction_read_only: 'on' }

/** What an administrator may run in our place. */
function byHand(role: string): string {
  const set = Object.entries(settings).map(([name, value]) => ` ALTER ROLE ${role} SET ${name} = '${value}';`)
  return `CREATE ROLE ${role} NOLOGIN;${set.join('')}`
}

interface Role {
  /** Whether it has the rights of the account that owns the tables. */
  ours: boolean
  /** As name=value. */
  settings: string[] | null
}

async function find(client: pg.Client, role: string): Promise<Role | undefined> {
  const { rows } = await client.query<Role>(
    `SELECT pg_has_role(oid, (SELECT relowner FROM pg_class WHERE oid = 'runs'::regclass), 'MEMBER') AS ours,
       rolconfig AS settings FROM pg_roles WHERE rolname = $1`,
    [role],
  )
  return rows[0]
}

/** Makes the role where there is none, and sets what it lacks. An account that may not is told who may. */
async function make(client: pg.Client, role: string): Promise<void> {
  const found = await find(client, role)
  if (found?.ours)
    throw new Misconfigured(`the role ${role} may read everything already`, 'name a role that is for dashboards alone')
  const missing = Object.entries(settings).filter(
    ([name]) => !found?.settings?.some((setting) => setting.startsWith(`${name}=`)),
  )
  try {
    if (!found) await client.query(`CREATE ROLE ${role} NOLOGIN`)
    for (const [name, value] of missing) await client.query(`ALTER ROLE ${role} SET ${name} = '${value}'`)
  } catch (error) {
    if ((error as { code?: string }).code !== '42501') throw error
    throw new Misconfigured(
      `the account of DATABASE_URL may not ${found ? 'change' : 'make'} the role ${role}`,
      `let an administrator of the database run: ${found ? byHand(role).replace(/^.*?; /, '') : byHand(role)} -- then run this again`,
      { cause: error },
    )
  }
}

/**
 * Lets a role read the views of the dashboards, and nothing else. A role that is not there is made, without a way to
 * log in. Throws Misconfigured where the account of the database may not make it, with what an administrator should do.
 */
export async function grantReader(url: string, role: string): Promise<void> {
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(role) || role.startsWith('pg_'))
    throw new Misconfigured(
      `'${role}' is no name for a role`,
      'use small letters, digits and _, and not pg_ at the beginning, as in gestalt_grafana',
    )
  await connected(url, async (client) => {
    await client.query('BEGIN') // a connection that ends takes back what is half done
    await make(client, role)
    await client.query(`GRANT USAGE ON SCHEMA grafana TO ${role}`)
    await client.query(`GRANT SELECT ON ALL TABLES IN SCHEMA grafana TO ${role}`)
    // Views that a later version brings are read without another grant.
    await client.query(`ALTER DEFAULT PRIVILEGES IN SCHEMA grafana GRANT SELECT ON TABLES TO ${role}`)
    await client.query('COMMIT')
  })
}
