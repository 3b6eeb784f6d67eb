import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from '../eventually.ts'

export interface Series {
  metric: Record<string, string>
  /** Of a range; in seconds and as text. */
  values?: [number, string][]
  /** Of a moment. */
  value?: [number, string]
}

export interface Prometheus {
  query(promql: string): Promise<Series[]>
  queryRange(promql: string, from: Date, to: Date): Promise<Series[]>
  stop(): Promise<void>
}

function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })
}

/** A real Prometheus that scrapes one port several times a second, under the job that deploy/ gives it. */
export async function startPrometheus(target: number): Promise<Prometheus> {
  const folder = mkdtempSync(join(tmpdir(), 'gestalt-prometheus-'))
  const file = join(folder, 'prometheus.yml')
  const scrape = { job_name: 'gestalt', static_configs: [{ targets: [`127.0.0.1:${target}`] }] }
  // JSON is YAML.
  writeFileSync(
    file,
    JSON.stringify({ global: { scrape_interval: '250ms', scrape_timeout: '250ms' }, scrape_configs: [scrape] }),
  )
  const port = await freePort()
  const process = spawn(
    'prometheus',
    [`--config.file=${file}`, `--storage.tsdb.path=${join(folder, 'data')}`, `--web.listen-address=127.0.0.1:${port}`],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let words = ''
  process.stderr.on('data', (bytes: Buffer) => (words += bytes))
  const ended = once(process, 'exit')

  async function ask(path: string, parameters: Record<string, string>): Promise<Series[]> {
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/${path}?${new URLSearchParams(parameters)}`)
    const answer = (await response.json()) as { status: string; error?: string; data: { result: Series[] } }
    if (answer.status !== 'success') throw new Error(`${parameters.query}: ${answer.error}`)
    return answer.data.result
  }
  const seconds = (time: Date) => String(time.getTime() / 1000)
  const prometheus: Prometheus = {
    query: (query) => ask('query', { query }),
    queryRange: (query, from, to) => ask('query_range', { query, start: seconds(from), end: seconds(to), step: '0.5' }),
    async stop() {
      process.kill('SIGTERM')
      await ended
      rmSync(folder, { recursive: true, force: true })
    },
  }
  try {
    await eventually(async () => {
      if (process.exitCode !== null) throw Object.assign(new Error(words), { final: true })
      if ((await prometheus.query('up == 1')).length !== 1) throw new Error(`nothing was scraped: ${words}`)
    }, 30_000)
  } catch (error) {
    await prometheus.stop()
    throw error
  }
  return prometheus
}
