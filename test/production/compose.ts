import { readFileSync } from 'node:fs'
import { parse } from 'yaml'

/** What docker-compose.yml says of a service, as far as it concerns the process. */
export interface ComposeService {
  command: string[]
  environment: Record<string, string>
}

/** `${NAME:?what to do}` as Compose puts it in. */
function fill(text: string, values: Record<string, string>): string {
  return text.replace(/\$\{(\w+)(?::([?-])([^}]*))?\}/g, (_, name: string, kind?: string, word?: string) => {
    const value = values[name]
    if (value) return value
    if (kind === '-') return word ?? ''
    throw new Error(`${name}: ${word ?? 'is not set'}`)
  })
}

/** The services of docker-compose.yml with these variables in the environment of Compose. */
export function readCompose(values: Record<string, string>): Record<string, ComposeService> {
  const file = readFileSync(new URL('../../docker-compose.yml', import.meta.url), 'utf8')
  const { services } = parse(fill(file, values), { merge: true }) as {
    services: Record<string, { command?: string[]; environment?: Record<string, string> }>
  }
  return Object.fromEntries(
    Object.entries(services).map(([name, { command = [], environment = {} }]) => [
      name,
      { command, environment: Object.fromEntries(Object.entries(environment).map(([key, of]) => [key, String(of)])) },
    ]),
  )
}
