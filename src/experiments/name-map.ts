import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import { InvalidDefinition } from '../errors.ts'
import { type NameMap, nameMapSchema } from '../models/weights/name-map.ts'
import { toFaults } from './faults.ts'

let validator: ValidateFunction<NameMap> | undefined

/** A name map as a person wrote it. Throws InvalidDefinition with every fault. */
export function parseNameMap(value: unknown): NameMap {
  validator ??= new Ajv2020({ allErrors: true, verbose: true, strictTypes: false }).compile<NameMap>(nameMapSchema)
  const validate = validator
  if (validate(value)) return value
  throw new InvalidDefinition(toFaults(validate.errors ?? []), 'the name map')
}

/** The same from text. */
export function readNameMap(text: string): NameMap {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const detail = `is not JSON: ${(error as Error).message}`
    throw new InvalidDefinition([{ pointer: '', detail }], 'the name map')
  }
  return parseNameMap(value)
}
