import { spawnSync } from 'node:child_process'

/** Whether Debian's package prometheus is there. */
export const hasPrometheus = spawnSync('promtool', ['--version']).status === 0

/** What promtool finds wrong; empty where nothing is. */
export function promtool(parameters: readonly string[], input = ''): string {
  const { status, stdout, stderr, error } = spawnSync('promtool', parameters, { input, encoding: 'utf8' })
  if (error) throw error
  return status === 0 ? '' : `${stdout}${stderr}` || `exit status ${status}`
}

/** The samples of an exposition by their name with labels, as Prometheus writes it. */
export function readSamples(text: string): Map<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(
    lines.map((line) => {
      const end = line.lastIndexOf(' ')
      return [line.slice(0, end), Number(line.slice(end + 1))]
    }),
  )
}
