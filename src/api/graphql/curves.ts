import { InvalidDefinition } from '../../errors.ts'
import type { Curve } from '../../store/metrics.ts'
import { numberResource } from '../resources.ts'
import type { CurveOptions } from './loaders.ts'

/** Ranges of arguments that the schema's types cannot say. */
export function between(name: string, value: number, least: number, most: number): number {
  if (value >= least && value <= most) return value
  const detail = `is ${value}; it is ${least} to ${most}`
  throw new InvalidDefinition([{ pointer: `/${name}`, detail }], 'the query')
}

/** What a caller may leave out, or give as null. */
export interface CurveArguments {
  names?: string[] | null
  from?: number | null
  to?: number | null
  maxPoints?: number | null
}

export function readCurveArguments({ names, from, to, maxPoints }: CurveArguments): CurveOptions {
  return {
    ...(names ? { names } : {}),
    ...(typeof from === 'number' ? { from } : {}),
    ...(typeof to === 'number' ? { to } : {}),
    maxPoints: between('maxPoints', maxPoints ?? 500, 5, 10_000),
  }
}

export function curveObject({ name, sampled, points }: Curve) {
  return { name, sampled, points: points.map(({ step, value, time }) => ({ step, time, ...numberResource(value) })) }
}
