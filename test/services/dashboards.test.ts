import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { grantReader } from '../../src/store/lab-reader.ts'
import { openWorld, type World } from '../api/world.ts'
import { eventually } from '../eventually.ts'
import { hasPrometheus, promtool } from '../promtool.ts'
import { expandPromql, expandSql, type Moment, type Panel, readDashboards, readDatasources } from './grafana.ts'
import { fillLab, longCurve } from './lab.ts'
import { type Prometheus, type Series, startPrometheus } from './prometheus.ts'

const dashboards = readDashboards()
const datasources = readDatasources()
const path = (file: string) => fileURLToPath(new URL(`../../${file}`, import.meta.url))

const needsPrometheus = !hasPrometheus && !process.env.CI

/** Types of columns, as Postgres numbers them, that Grafana shows: anything else it would show as it is spelled. */
const shown = { boolean: [16], number: [20, 21, 23, 700, 701, 1700], text: [25, 1043], time: [1184] }
const kindOf = (type: number) => Object.entries(shown).find(([, types]) => types.includes(type))?.[0] ?? `type ${type}`

interface Answer {
  columns: { name: string; kind: string }[]
  rows: Record<string, unknown>[]
}

/** What each type of panel needs of the rows that it draws. */
const shapes: Record<string, (answer: Answer) => void> = {
  stat: ({ rows, columns }) => {
    expect(rows).toHaveLength(1)
    for (const { name } of columns) expect(rows[0]![name]).not.toBeNull()
  },
  gauge: (answer) => {
    shapes.stat!(answer)
    expect(answer.columns.map(({ kind }) => kind)).toEqual(['number'])
  },
  table: ({ columns }) => expect(columns.length).toBeGreaterThan(1),
  timeseries: ({ columns, rows }) => {
    const [first, ...rest] = columns
    expect(first).toEqual({ name: 'time', kind: 'number' })
    // At most one column of text, which names the series.
    expect(rest.filter(({ kind }) => kind !== 'number').map(({ name }) => name)).toEqual(
      rest.some(({ kind }) => kind === 'text') ? ['metric'] : [],
    )
    expect(rest.some(({ kind }) => kind === 'number')).toBe(true)
    const times = rows.map(({ time }) => Number(time))
    expect(times).toEqual([...times].sort((a, b) => a - b))
  },
  trend: ({ columns, rows }) => {
    expect(columns.map(({ kind }) => kind)).toEqual(['number', 'number', 'number'])
    const steps = rows.map(({ step }) => Number(step))
    expect(new Set(steps).size).toBe(steps.length)
    expect(steps).toEqual([...steps].sort((a, b) => a - b))
  },
  barchart: ({ columns }) => {
    expect(columns[0]!.kind).toBe('text')
    expect(columns.slice(1).every(({ kind }) => kind === 'number')).toBe(true)
  },
}

const targetsOf = (kind: 'rawSql' | 'expr') =>
  dashboards.flatMap(({ file, panels }) =>
    panels.flatMap((panel) =>
      (panel.targets ?? [])
        .filter((target) => target[kind] !== undefined)
        .map((target) => ({
          name: `${file}: ${panel.title} (${target.refId})`,
          file,
          panel,
          target,
          text: target[kind]!,
        })),
    ),
  )

describe('the dashboards as files', () => {
  it('are three, under uids of their own, that name each other where they link', () => {
    expect(dashboards.map(({ file }) => file)).toEqual(['lab-overview.json', 'run.json', 'workers-and-queue.json'])
    const uids = dashboards.map(({ uid }) => uid)
    expect(new Set(uids).size).toBe(3)
    const linked = [...JSON.stringify(dashboards).matchAll(/"\/d\/([\w-]+)\//g)].map(([, uid]) => uid)
    expect(linked.length).toBeGreaterThan(0)
    expect(linked.filter((uid) => !uids.includes(uid!))).toEqual([])
  })

  it.each(dashboards)('$file gives each panel an id and a place of its own', ({ panels }) => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
    const overlap = (a: Panel['gridPos'], b: Panel['gridPos']) =>
      a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h
    const pairs = panels.flatMap((one, i) => panels.slice(i + 1).map((other) => [one, other] as const))
    expect(
      pairs
        .filter(([one, other]) => overlap(one.gridPos, other.gridPos))
        .map(([one, other]) => [one.title, other.title]),
    ).toEqual([])
    for (const { gridPos } of panels) expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24)
  })

  it.each(dashboards)('$file reads provisioned sources only, in every panel', ({ panels, templating }) => {
    expect(datasources.size).toBe(2)
    for (const panel of panels.filter(({ type }) => type !== 'row')) {
      expect(panel.targets?.length, panel.title).toBeGreaterThan(0)
      for (const { uid, type } of [panel.datasource!, ...panel.targets!.map((target) => target.datasource)])
        expect(datasources.get(uid), panel.title).toBe(type)
    }
    for (const { datasource } of templating.list) expect(datasources.has(datasource.uid)).toBe(true)
  })
})

describe('docker-compose.yml', () => {
  const read = (file: string) => readFileSync(path(file), 'utf8')
  const compose = read('docker-compose.yml')

  it('mounts folders that are there', () => {
    const mounted = [...compose.matchAll(/- \.\/(\S+):\/\S+:ro$/gm)].map(([, folder]) => folder!)
    expect(mounted.length).toBe(3)
    expect(mounted.filter((folder) => !existsSync(path(folder)))).toEqual([])
  })

  it('serves the metrics where Prometheus looks for them, and makes the role that Grafana is', () => {
    const [, port] = /GESTALT_METRICS_PORT: (\d+)/.exec(compose)!
    expect(read('deploy/prometheus/prometheus.yml')).toContain(`port: ${port}\n`)
    const [, role] = /--grafana-role, (\w+)\]/.exec(compose)!
    expect(compose).toContain(`ALTER ROLE ${role} LOGIN`)
    expect(read('deploy/grafana/provisioning/datasources/gestalt.yaml')).toContain(`user: ${role}\n`)
  })
})

describe('the panels over a lab with runs in it', () => {
  const role = `reader_${randomBytes(6).toString('hex')}`
  const began = new Date()
  let world: World
  let reader: pg.Client
  let prometheus: Prometheus | undefined
  let runs: Awaited<ReturnType<typeof fillLab>>

  beforeAll(async () => {
    world = await openWorld()
    const { port } = new URL(await world.listen())
    if (hasPrometheus) prometheus = await startPrometheus(Number(port))
    runs = await fillLab(world)
    await grantReader(world.parts.database.url, role)
    await world.parts.database.pool.query(`ALTER ROLE ${role} LOGIN PASSWORD 'x'`)
    const url = new URL(world.parts.database.url)
    url.username = role
    url.password = 'x'
    reader = new pg.Client(url.href)
    await reader.connect()
  }, 120_000)
  afterAll(async () => {
    await reader.end()
    await prometheus?.stop()
    await world.parts.database.pool.query(`DROP OWNED BY ${role}`)
    await world.parts.database.pool.query(`DROP ROLE ${role}`)
    await world.close()
  })

  const moment = (variables: Moment['variables'] = {}): Moment => ({
    from: new Date(began.getTime() - 60_000),
    to: new Date(Date.now() + 60_000),
    variables,
  })

  async function ask(sql: string): Promise<Answer> {
    const { fields, rows } = await reader.query(sql)
    return { columns: fields.map(({ name, dataTypeID }) => ({ name, kind: kindOf(dataTypeID) })), rows }
  }

  it.each(targetsOf('rawSql'))('$name: the role of the dashboards gets rows to draw', async ({ file, panel, text }) => {
    const names = panel.repeat ? ['learningRate', 'loss'] : ['loss']
    for (const metric of names) {
      const variables: Moment['variables'] = file === 'run.json' ? { run: [runs.succeeded], metric: [metric] } : {}
      const answer = await ask(expandSql(text, moment(variables)))
      expect(answer.rows.length).toBeGreaterThan(0)
      expect(answer.columns.map(({ kind }) => kind).filter((kind) => !(kind in shown))).toEqual([])
      shapes[panel.type]!(answer)
    }
  })

  it('offers the runs, and the curves of the one that is chosen', async () => {
    const [run, metric] = dashboards.find(({ file }) => file === 'run.json')!.templating.list
    const choices = (await ask(expandSql(run!.query, moment()))).rows
    expect(choices.map(({ __value }) => __value)).toContain(runs.succeeded)
    expect(choices.find(({ __value }) => __value === runs.succeeded)!.__text).toMatch(/^succeeds \(succeeded, 20\d\d-/)
    const curves = (await ask(expandSql(metric!.query, moment({ run: [runs.succeeded] })))).rows
    expect(curves).toEqual([{ name: 'learningRate' }, { name: 'loss' }])
  })

  it('shows the points of a short curve, and the extremes of the stretches of a long one', async () => {
    const { text } = targetsOf('rawSql').find(({ panel }) => panel.type === 'trend')!
    const short = await ask(expandSql(text, moment({ run: [runs.succeeded], metric: ['loss'] })))
    expect(short.rows).toHaveLength(20)
    expect(short.rows[1]).toEqual({ step: '2', low: 0.5, high: 0.5 })
    expect(short.rows[2]).toEqual({ step: '3', low: null, high: null })
    const long = await ask(expandSql(text, moment({ run: [runs.running], metric: ['loss'] })))
    expect(long.rows.length).toBeGreaterThan(30)
    expect(long.rows.length).toBeLessThanOrEqual(1025)
    expect(Number(long.rows.at(-1)!.step)).toBe(longCurve)
    expect(Math.max(...long.rows.map(({ high }) => high as number))).toBeCloseTo(1, 5)
  })

  it.skipIf(needsPrometheus).each(targetsOf('expr'))(
    '$name: a real Prometheus finds numbers',
    async ({ panel, target, text }) => {
      const promql = expandPromql(text, moment())
      const numbers = (series: Series[]) =>
        series
          .flatMap(({ value, values }) => (values ?? [value!]).map(([, number]) => Number(number)))
          .filter(Number.isFinite)
      await eventually(async () => {
        const series = target.instant
          ? await prometheus!.query(promql)
          : await prometheus!.queryRange(promql, began, new Date())
        expect(numbers(series).length, promql).toBeGreaterThan(0)
      })
      expect(['stat', 'timeseries']).toContain(panel.type)
    },
  )
})

describe.skipIf(needsPrometheus)('what Prometheus is given', () => {
  it('is a configuration and rules that promtool finds right', () => {
    expect(promtool(['check', 'config', path('deploy/prometheus/prometheus.yml')])).toBe('')
    expect(promtool(['check', 'rules', '--lint-fatal', path('deploy/prometheus/rules.yml')])).toBe('')
  })

  it('alerts when it should, and not before', () => {
    expect(promtool(['test', 'rules', path('test/services/alerts.yml')])).toBe('')
  })
})
