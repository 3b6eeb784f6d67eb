import type { Trace } from '../../recording/trace.ts'
import type { KernelGroup } from '../kernel.ts'
import { fusedActivation } from './activations.ts'
import { binary } from './binary.ts'
import { compose } from './composition.ts'
import { convolution } from './convolution.ts'
import { batchMatMul } from './products.ts'

/** A kernel, then a bias, then an activation: each recorded by itself. */
function fused(base: Trace): Trace {
  return ({ bias, preluActivationWeights, ...operands }, attributes, tracer) =>
    compose(tracer, (call) => {
      let made = call(base, operands, attributes)
      if (bias) made = call(binary.traces.Add!, { a: made, b: bias })
      const activation = fusedActivation(attributes)
      if (!activation) return made
      const inputs: typeof operands = preluActivationWeights ? { x: made, alpha: preluActivationWeights } : { x: made }
      return call(activation.trace, inputs, activation.attributes)
    })
}

export const fusion: KernelGroup = {
  traces: { FusedConv2D: fused(convolution.traces.Conv2D!), _FusedMatMul: fused(batchMatMul) },
  lowerings: {},
}
