import { sizeOf } from '../recording/shape.ts'
import { type Arg, type MapNode, type Node, rowStrides, type SpecialNode } from './node.ts'

/** Nodes that read each node, each as often as it does. */
function usersOf(nodes: readonly Node[]): Map<Node, Node[]> {
  const users = new Map<Node, Node[]>()
  for (const node of nodes)
    for (const read of readBy(node)) {
      const list = users.get(read)
      if (list) list.push(node)
      else users.set(read, [node])
    }
  return users
}

export function readBy(node: Node): Node[] {
  if (node.kind === 'map') return node.args.map((arg) => arg.node)
  if (node.kind === 'fold') return [node.arg.node]
  return node.kind === 'special' ? node.special.inputs.map((input) => input.node) : []
}

/** What the roots need, in the order in which it was made. */
export function reached(nodes: readonly Node[], roots: readonly Node[]): Node[] {
  const needed = new Set<Node>()
  const visit = [...roots]
  for (let node = visit.pop(); node; node = visit.pop()) {
    if (needed.has(node)) continue
    needed.add(node)
    visit.push(...readBy(node))
  }
  return nodes.filter((node) => needed.has(node))
}

export function isWhole({ strides, offset }: Arg, shape: readonly number[]): boolean {
  if (offset !== 0) return false
  return rowStrides(shape).every((stride, i) => shape[i] === 1 || strides[i] === stride)
}

/** Whether each row of the shape reads the same numbers, as many as the shape is wide. */
export function isRow({ node, strides, offset }: Arg, shape: readonly number[]): boolean {
  const last = shape.length - 1
  if (offset !== 0 || sizeOf(node.shape) !== shape[last]) return false
  return strides.every((stride, i) => shape[i] === 1 || stride === (i === last ? 1 : 0))
}

/** Lets a convolution, product or pool gradient do what would be done to its results next; whether it can. */
function takes(node: SpecialNode, user: MapNode): boolean {
  const { special } = node
  const finish = special.finish!
  const { shape } = user
  const [own, other] = user.args[0]!.node === node ? user.args : [...user.args].reverse()
  if (sizeOf(shape) !== sizeOf(node.shape) || !isWhole(own!, shape)) return false
  if (finish.where) return false
  if (user.formula === 'multiply') return takesStep(node, other!, shape)
  if (special.name === 'max pool gradient' || finish.relu) return false
  if (user.formula === 'relu') {
    finish.relu = true
    return true
  }
  const vector = user.formula === 'add' && !finish.bias && isRow(other!, shape) && other!.node.number < node.number
  if (!vector || shape.at(-1) !== node.shape.at(-1)) return false
  // What is read with zeros around it cannot be read as a row as well.
  if (special.inputs.some((input) => input.node === other!.node)) return false
  finish.bias = other!.node
  special.inputs.push({ node: other!.node })
  return true
}

/** A product with the step of numbers of the same shape. */
function takesStep(
  { special, shape: own, number }: SpecialNode,
  { node: step, ...arg }: Arg,
  shape: readonly number[],
): boolean {
  if (step.kind !== 'map' || step.formula !== 'step' || step.parameter !== 0) return false
  const [seen] = step.args
  const { node } = seen!
  const alike = node.shape.length === own.length && node.shape.every((side, i) => side === own[i])
  if (!alike || !isWhole({ node: step, ...arg }, shape) || !isWhole(seen!, step.shape) || node.number > number)
    return false
  // A pool's gradient goes to the largest number of a window only, and knows it.
  const isPool = special.name === 'max pool gradient'
  if (isPool ? special.inputs[1]!.node !== node : special.name !== 'convolution') return false
  special.finish!.where = node
  if (!isPool) special.inputs.push({ node, strided: true })
  return true
}

/**
 * Lets nodes of their own kind finish their results before they store them, where nothing else reads those. The nodes
 * that are left out then, each with the one that does its work.
 */
export function finishResults(nodes: readonly Node[], roots: Node[]): Map<Node, Node> {
  const instead = new Map<Node, Node>()
  const users = usersOf(nodes)
  const own = new Set(roots)
  for (const node of nodes) {
    if (node.kind !== 'special' || !node.special.finish) continue
    let last: Node = node
    for (;;) {
      const [user, ...others]: Node[] = users.get(last) ?? []
      if (!user || others.length > 0 || own.has(last) || user.kind !== 'map') break
      const seen = last
      if (!takes(node, replaced(user, seen, node))) break
      instead.set(user, node)
      last = user
    }
  }
  if (instead.size === 0) return instead
  for (const node of nodes) {
    if (node.kind === 'map') for (const arg of node.args) arg.node = instead.get(arg.node) ?? arg.node
    else if (node.kind === 'fold') node.arg.node = instead.get(node.arg.node) ?? node.arg.node
    else if (node.kind === 'special')
      for (const input of node.special.inputs) input.node = instead.get(input.node) ?? input.node
  }
  for (const [i, root] of roots.entries()) roots[i] = instead.get(root) ?? root
  return instead
}

/** The user as if it read the node itself rather than what the node finishes. */
function replaced(user: MapNode, seen: Node, node: Node): MapNode {
  return { ...user, args: user.args.map((arg) => (arg.node === seen ? { ...arg, node } : arg)) }
}
