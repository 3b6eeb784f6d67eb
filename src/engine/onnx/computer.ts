import { Unavailable } from '../../errors.ts'
import type { Compiled, Computer } from '../recording/computer.ts'
import type { Plan } from '../recording/keys.ts'
import { known, type Numbers, type Value } from '../recording/record.ts'
import { sameShape, sizeOf } from '../recording/shape.ts'
import { putRows } from '../recording/updates.ts'
import { encodeModel } from './encode.ts'
import { type Forms, Graph } from './graph.ts'
import { lowerings } from './kernels/index.ts'
import type { Feeds, Runtime, Session } from './runtime.ts'

/** Which leaves a session is fed under which names, and the name of each root's result. */
interface Wiring {
  /** By leaf; undefined where the graph does not need it. */
  feeds: (string | undefined)[]
  names: string[]
  outputs: string[]
}

/** A recorded graph as nodes of ONNX. */
export function lowerGraph({ leaves, operations }: Plan, roots: readonly Value[], forms: Forms) {
  const graph = new Graph(leaves, forms)
  graph.survey(operations, roots)
  for (const operation of operations) {
    graph.begin(operation)
    lowerings[operation.kind]!(operation, graph)
  }
  return graph.finish(roots)
}

function resolve(roots: readonly Value[], { names }: Wiring, results: Feeds): void {
  for (let i = 0; i < roots.length; i++) {
    const root = roots[i]!
    const result = results[names[i]!]!
    if (result.data.length !== sizeOf(root.shape))
      throw new Unavailable(
        `the engine made [${result.dims.join(', ')}] where [${root.shape.join(', ')}] was expected`,
        'choose another engine: GESTALT_ENGINE=wasm',
      )
    if (sameShape(result.dims, root.shape)) root.fed = result
    root.data = result.data as Numbers
  }
}

/** Compiles recorded graphs to ONNX and runs them with ONNX Runtime. */
export class OnnxComputer implements Computer {
  readonly putRows = putRows
  private readonly runtime: Runtime

  constructor(runtime: Runtime) {
    this.runtime = runtime
  }

  get synchronous(): boolean {
    return this.runtime.synchronous
  }

  refusal(): Unavailable {
    return new Unavailable(
      'this version of onnxruntime-node computes only in promises, and a number is wanted at once',
      'read tensors with `await tensor.data()`, or choose another engine: GESTALT_ENGINE=wasm',
    )
  }

  compile(plan: Plan, roots: readonly Value[]): Compiled | Promise<Compiled> {
    const { model, names, used } = lowerGraph(plan, roots, this.runtime)
    const feeds = used.map((is, i) => (is ? `i${i}` : undefined))
    const wiring = { feeds, names, outputs: [...new Set(names)] }
    const opened = this.runtime.open(encodeModel(model))
    return opened instanceof Promise
      ? opened.then((session) => this.compiled(session, wiring))
      : this.compiled(opened, wiring)
  }

  private compiled(session: Session, wiring: Wiring): Compiled {
    return {
      kind: 'session',
      run: (leaves, roots) => {
        const results = session.run(this.feed(wiring, leaves), wiring.outputs)
        if (results instanceof Promise) return results.then((made) => resolve(roots, wiring, made))
        resolve(roots, wiring, results)
      },
      close: () => session.close(),
    }
  }

  private feed({ feeds }: Wiring, leaves: readonly Value[]): Feeds {
    const fed: Feeds = {}
    for (let i = 0; i < leaves.length; i++) {
      const name = feeds[i]
      if (name === undefined) continue
      const leaf = leaves[i]!
      leaf.fed ??= this.runtime.tensor(leaf.dtype, known(leaf), leaf.shape)
      fed[name] = leaf.fed as Feeds[string]
    }
    return fed
  }
}
