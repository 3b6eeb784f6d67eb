import { readdirSync, readFileSync } from 'node:fs'

const deploy = new URL('../../deploy/', import.meta.url)

export interface Target {
  refId: string
  datasource: { type: string; uid: string }
  expr?: string
  instant?: boolean
  rawSql?: string
  format?: 'table' | 'time_series'
}

export interface Panel {
  id: number
  type: string
  title: string
  gridPos: { x: number; y: number; w: number; h: number }
  datasource?: { type: string; uid: string }
  targets?: Target[]
  repeat?: string
}

export interface Dashboard {
  file: string
  uid: string
  title: string
  panels: Panel[]
  templating: { list: { name: string; query: string; datasource: { uid: string } }[] }
}

/** Every dashboard that is provisioned. */
export function readDashboards(): Dashboard[] {
  const folder = new URL('grafana/dashboards/', deploy)
  return readdirSync(folder).map((file) => ({ file, ...JSON.parse(readFileSync(new URL(file, folder), 'utf8')) }))
}

/** The sources that are provisioned: type by uid. */
export function readDatasources(): Map<string, string> {
  const text = readFileSync(new URL('grafana/provisioning/datasources/gestalt.yaml', deploy), 'utf8')
  return new Map([...text.matchAll(/^ {4}uid: (\S+)\n {4}type: (\S+)$/gm)].map(([, uid, type]) => [uid!, type!]))
}

export interface Moment {
  from: Date
  to: Date
  /** Values of the dashboard's variables. */
  variables: Record<string, readonly string[]>
}

const quoted = (value: string) => `'${value.replaceAll("'", "''")}'`

function replaceVariables(text: string, { variables }: Moment): string {
  return text.replace(/\$\{(\w+)(?::(\w+))?\}/g, (whole, name: string, format?: string) => {
    const values = variables[name]
    if (!values) return whole
    return format === 'sqlstring' ? values.map(quoted).join(',') : values.join(',')
  })
}

/** What must have been replaced by Grafana: a misspelt macro or variable stays as it is. */
function checkDone(text: string): string {
  const left = /\$\{[^}]*\}|\$\w+/.exec(text)
  if (left) throw new Error(`nobody knows ${left[0]}: ${text}`)
  return text
}

const interval = 30

/** A query of SQL as Grafana's PostgreSQL source sends it. */
export function expandSql(text: string, moment: Moment): string {
  const [from, to] = [moment.from.toISOString(), moment.to.toISOString()]
  return checkDone(
    replaceVariables(text, moment)
      .replace(/\$__interval\b/g, `${interval}s`)
      .replace(/\$__timeFilter\(([\w.]+)\)/g, `$1 BETWEEN '${from}' AND '${to}'`)
      .replace(/\$__timeGroupAlias\(([\w.]+), ?(\d+)s\)/g, 'floor(extract(epoch from $1)/$2)*$2 AS "time"'),
  )
}

/** A query of PromQL as Grafana's Prometheus source sends it. */
export function expandPromql(text: string, moment: Moment): string {
  return checkDone(replaceVariables(text, moment).replace(/\$__rate_interval\b/g, '5s'))
}
