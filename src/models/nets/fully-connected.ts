import { Type } from 'typebox'
import { type DrawingName, dense, dropout, relu } from './kinds.ts'
import type { Layer } from './layer.ts'

/** Widths of dense layers above the convolutions; a parameter of several families. */
export function denseSchema(widths: number[]) {
  return Type.Array(Type.Integer({ minimum: 1, maximum: 65_536, description: 'Numbers of one dense layer.' }), {
    maxItems: 4,
    default: widths,
    description: 'Widths of the dense layers above the convolutions, each with a relu; none: the flat activations.',
  })
}

/** Where and how often numbers are dropped; parameters of several families. */
export function dropoutSchemas(rate: number, place: 'before' | 'after' | 'between') {
  return {
    dropout: Type.Number({
      minimum: 0,
      exclusiveMaximum: 1,
      default: rate,
      description: 'Share of the numbers that dropout sets to 0 in training, at the dense layers.',
    }),
    dropoutAt: Type.Union([Type.Literal('before'), Type.Literal('after'), Type.Literal('between')], {
      default: place,
      description:
        'Where dropout is: before each dense layer, after the relu of each (so that a classifier on top sees it), or between them only.',
    }),
  }
}

export interface DenseParameters {
  dense: readonly number[]
  dropout: number
  dropoutAt: 'before' | 'after' | 'between'
}

/** Dense layers fc6, relu6, fc7 ...; `first` is the number of the first. */
export function fullyConnected(
  { dense: widths, dropout: rate, dropoutAt }: DenseParameters,
  first: number,
  drawing: DrawingName,
): Layer[] {
  return widths.flatMap((width, i) => {
    const number = first + i
    const before = rate > 0 && (dropoutAt === 'before' || (dropoutAt === 'between' && i > 0))
    const after = rate > 0 && dropoutAt === 'after'
    return [
      ...(before ? [dropout(`dropout${number - 1}`, rate)] : []),
      dense(`fc${number}`, width, drawing),
      relu(`relu${number}`),
      ...(after ? [dropout(`dropout${number}`, rate)] : []),
    ]
  })
}
