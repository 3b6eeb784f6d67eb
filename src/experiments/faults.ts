import type { ErrorObject } from 'ajv/dist/2020.js'
import { nearestName } from '../data/nearest-name.ts'
import type { Fault } from '../errors.ts'
import { inWords, type Schema, unitName } from './schema.ts'

const mostFaults = 100
const mostValues = 5_000
const deepest = 16

/** A value as a short phrase, whatever it is. */
export function show(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : `a list of ${value.length}`
  if (typeof value === 'object') return 'an object'
  if (typeof value === 'string')
    return `the text ${JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)}`
  return String(value)
}

function didYouMean(word: string, names: readonly string[]): string {
  const nearest = nearestName(word, names)
  return nearest === undefined ? '' : ` — did you mean '${nearest}'?`
}

/** '/evaluations/0' -> 'evaluation'; the pointer's last word that is not a number. */
function kindOf(pointer: string): string {
  const words = pointer.split('/').filter((word) => word !== '' && !/^\d+$/.test(word))
  return (words.at(-1) ?? 'unit').replace(/s$/, '')
}

function step(pointer: string, key: string): string {
  return `${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`
}

function unknownKey(error: ErrorObject): Fault {
  const key = String(error.params.additionalProperty)
  const keys = Object.keys((error.parentSchema as Schema).properties ?? {})
  return {
    pointer: step(error.instancePath, key.length > 60 ? `${key.slice(0, 60)}…` : key),
    detail: `there is no such key here; the keys are: ${keys.join(', ')}${didYouMean(key, keys)}`,
  }
}

function missingKey(error: ErrorObject): Fault {
  const key = String(error.params.missingProperty)
  const schema = error.parentSchema as Schema
  const names = schema.oneOf?.map(unitName)
  const wanted = names ? `one of: ${names.join(', ')}` : inWords(schema.properties?.[key] ?? {})
  return { pointer: step(error.instancePath, key), detail: `is missing; it should be ${wanted}` }
}

function unknownUnit(error: ErrorObject): Fault | undefined {
  const names = ((error.parentSchema as Schema).oneOf ?? []).map((member) => unitName(member) ?? '')
  const pointer = step(error.instancePath, 'name')
  const given = error.params.tagValue as unknown
  // A missing name is reported by `required` as well.
  if (given === undefined) return undefined
  if (typeof given !== 'string')
    return { pointer, detail: `is ${show(given)}; it should be one of: ${names.join(', ')}` }
  const short = given.length > 60 ? `${given.slice(0, 60)}…` : given
  return {
    pointer,
    detail: `no ${kindOf(error.instancePath)} '${short}'; there are: ${names.join(', ')}${didYouMean(given, names)}`,
  }
}

function wrongValue(error: ErrorObject): Fault {
  const schema = error.parentSchema as Schema
  if (error.keyword === 'uniqueItems')
    return {
      pointer: error.instancePath,
      detail: `has the same item twice, at places ${error.params.i} and ${error.params.j}; each may stand once`,
    }
  // A size written as text ('8GiB') is told its unit as well.
  const unclear =
    error.keyword === 'pattern' || (error.keyword === 'type' && /\bbytes\b/.test(schema.description ?? ''))
  const hint = unclear && schema.description ? ` (${schema.description})` : ''
  return {
    pointer: error.instancePath,
    detail: `is ${show(error.data)}; it should be ${inWords(schema)}${hint}`,
  }
}

function toFault(error: ErrorObject): Fault | undefined {
  if (error.keyword === 'additionalProperties') return unknownKey(error)
  if (error.keyword === 'required') return missingKey(error)
  if (error.keyword === 'discriminator') return unknownUnit(error)
  return wrongValue(error)
}

/** One fault a place and reason, from what Ajv reports with `allErrors` and `verbose`; a union counts as one. */
export function toFaults(errors: readonly ErrorObject[]): Fault[] {
  const unions = errors.filter((error) => error.keyword === 'anyOf').map((error) => `${error.schemaPath}/`)
  const found = new Map<string, Fault>()
  for (const error of errors) {
    if (unions.some((union) => error.schemaPath.startsWith(union))) continue
    const fault = toFault(error)
    if (!fault) continue
    // A text can be too short and miss its pattern: what would have been right is told once.
    const reason = error.keyword === 'uniqueItems' ? 'twice' : 'value'
    const place = `${reason} ${fault.pointer}`
    if (!found.has(place)) found.set(place, fault)
  }
  const faults = [...found.values()].sort((a, b) => (a.pointer < b.pointer ? -1 : a.pointer > b.pointer ? 1 : 0))
  if (faults.length <= mostFaults) return faults
  return [...faults.slice(0, mostFaults), { pointer: '', detail: `and ${faults.length - mostFaults} more faults` }]
}

/** What is too large or too deep to be looked at one value at a time, or is not JSON at all. */
export function oversizeFault(value: unknown): Fault | undefined {
  let count = 0
  const waiting: { item: unknown; pointer: string; depth: number }[] = [{ item: value, pointer: '', depth: 0 }]
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const { item, pointer, depth } = next
    if (++count > mostValues) return { pointer: '', detail: `holds more than ${mostValues} values` }
    if (typeof item !== 'object' || item === null) continue
    if (depth >= deepest)
      return { pointer: pointer.slice(0, 200), detail: `is nested more than ${deepest} levels deep` }
    const keys = Object.keys(item)
    if (keys.length > mostValues)
      return { pointer: pointer.slice(0, 200), detail: `holds more than ${mostValues} values` }
    for (const key of keys)
      waiting.push({ item: (item as Record<string, unknown>)[key], pointer: step(pointer, key), depth: depth + 1 })
  }
  return undefined
}
