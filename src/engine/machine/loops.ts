import type { LoopStage } from '../graph/expression.ts'
import { type Node, smallStage } from '../graph/node.ts'
import { sizeOf } from '../recording/shape.ts'
import { Body, beginPart, nest, runtimeCount, setTailMask, vectors, vectorsOfPart } from './body.ts'
import { writeFold } from './folds.ts'
import { rax, rcx } from './operands.ts'
import type { Stored } from './special.ts'
import { Loops } from './steps.ts'
import type { Writer } from './writer.ts'

export const isSmall = (stage: LoopStage): boolean => sizeOf(stage.sides) <= smallStage

function writeMap(w: Writer, loops: Loops, small: boolean): void {
  const { a } = w
  let alone = small
  loops.merge(() => true)
  const done = a.label()
  const { sides } = loops
  if (alone) w.alone(done)
  if (!alone && sides.length > 1) {
    // The threads share the first side that is long enough, which becomes the outermost.
    const enough = sides.findIndex(({ count }, i) => i < sides.length - 1 && count >= 4 * w.threads)
    const longest = sides.reduce((best, { count }, i) => (count > sides[best]!.count ? i : best), 0)
    if (enough >= 0) loops.order([enough, ...sides.map((_, i) => i).filter((i) => i !== enough)])
    else if (longest < sides.length - 1) loops.order([longest, ...sides.map((_, i) => i).filter((i) => i !== longest)])
    else if (!cutInner(loops)) {
      // Few rows whose length has no fitting divisor are one thread's work.
      w.alone(done)
      alone = true
    }
    loops.sides[0]!.shared = !alone
  }
  const body = new Body(w, loops)
  const inner = loops.sides.at(-1)!.count
  const unroll = loops.steps.length > 12 ? 2 : 4
  const each = (vector: number, masked: boolean) =>
    body.evaluate(vector, masked, (result, register) => body.store(result, register, vector, masked))
  setTailMask(w, inner)
  body.prepare()
  if (loops.sides.length === 1 && !alone) {
    w.range(rcx, rax, inner, 16)
    a.push(rax)
    body.begin(0, rcx)
    a.pop(rax)
    a.sub(rax, rcx)
    a.mov(rcx, rax)
    vectorsOfPart(w, body, inner, unroll, each)
  } else {
    const shared = loops.sides.length > 1 && loops.sides[0]!.shared
    if (shared) beginPart(w, body, 0, done)
    else body.begin()
    nest(body, 0, loops.sides.length - 1, runtimeCount(w), () => vectors(w, body, inner, unroll, each))
  }
  a.bind(done)
}

/** Cuts the innermost side where it is the only long one, so that threads can share it; whether it can be cut. */
function cutInner(loops: Loops): boolean {
  const last = loops.sides.length - 1
  const { count } = loops.sides[last]!
  for (let pieces = 64; pieces >= 2; pieces--)
    if (count % (16 * pieces) === 0) {
      loops.cut(last, count / pieces)
      loops.order([last, ...loops.sides.map((_, i) => i).filter((i) => i !== last)])
      return true
    }
  return false
}

/** Writes a stage of loops. */
export function writeLoopStage(w: Writer, stage: LoopStage, stored: (node: Node) => Stored): void {
  const loops = new Loops(w, stage, stored)
  if (stage.outputs[0]!.kind === 'fold') writeFold(w, loops, isSmall(stage))
  else writeMap(w, loops, isSmall(stage))
}
