import type { Plan } from '../../src/engine/recording/keys.ts'
import { type Dtype, type Operation, Value } from '../../src/engine/recording/record.ts'

/** What rounding computes with; further leaves of the graph, in this order. */
const constants = [8193, 0.75, 2 ** -14, 65520, Number.POSITIVE_INFINITY] as const

/** Adds operations on numbers of one shape. */
class Appended {
  readonly operations: Operation[] = []

  apply(kind: string, inputs: Value[], dtype: Dtype = 'float32'): Value {
    const outputs: Value[] = []
    const shapes = inputs.map(({ shape }) => shape)
    const operation = { kind, attributes: undefined, inputs, shapes, outputs, needed: false }
    outputs.push(new Value(inputs[0]!.shape, dtype, undefined, operation))
    this.operations.push(operation)
    return outputs[0]!
  }
}

/**
 * A value as half precision holds it: rounded to 11 digits (Veltkamp's splitting: t - (t - x) with t = 8193 x), below
 * 2^-14 to multiples of 2^-24, and infinite from 65520 on. To the nearest, of two that are as near to the even one, as
 * a processor converts numbers; only the sign of a zero is lost.
 */
function rounded(to: Appended, x: Value, [by, shift, normal, largest, infinity]: readonly Value[]): Value {
  const times = to.apply('Multiply', [x, by!])
  const digits = to.apply('Sub', [times, to.apply('Sub', [times, x])])
  const steps = to.apply('Sub', [to.apply('Add', [x, shift!]), shift!])
  const size = to.apply('Abs', [x])
  const finite = to.apply('Select', [to.apply('Less', [size, normal!], 'bool'), steps, digits])
  const beyond = to.apply('GreaterEqual', [size, largest!], 'bool')
  return to.apply('Select', [beyond, to.apply('Multiply', [x, infinity!]), finite])
}

/** 1 where numbers are finite, else 0: the machine has no code for IsFinite, nor for single truth values in memory. */
function isNumber(to: Appended, x: Value): Value {
  const difference = to.apply('Sub', [x, x])
  return to.apply('Cast', [to.apply('Equal', [difference, difference], 'bool')])
}

/**
 * The same graph where whoever reads one of the values reads it rounded, as code of the machine; and the leaves that it
 * has besides.
 */
export function roundWhereRead(plan: Plan, values: ReadonlySet<Value>): { plan: Plan; leaves: Value[] } {
  const leaves = constants.map((number) => new Value([], 'float32', Float32Array.of(number)))
  /** What others read in place of a value. */
  const instead = new Map<Value, Value>()
  /** What a relu made of a value: engines take the step of that for the step of the value. */
  const reluOf = new Map<Value, Value>()
  const to = new Appended()
  for (const operation of plan.operations) {
    const { kind, inputs, outputs } = operation
    const seen = (value: Value) => {
      const read = (kind === 'Step' && reluOf.get(value)) || value
      return instead.get(read) ?? read
    }
    if (kind === 'IsFinite') instead.set(outputs[0]!, isNumber(to, seen(inputs[0]!)))
    else to.operations.push({ ...operation, inputs: inputs.map(seen) })
    if (kind === 'Relu') reluOf.set(inputs[0]!, outputs[0]!)
    for (const output of outputs) if (values.has(output)) instead.set(output, rounded(to, output, leaves))
  }
  return { plan: { ...plan, operations: to.operations, leaves: [...plan.leaves, ...leaves] }, leaves }
}
