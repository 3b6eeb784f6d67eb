import type { Node, Special } from '../graph/node.ts'

/** Memory that shaders of one operation need between them. */
export interface Scratch {
  readonly scratch: string
  readonly bytes: number
}

export type Element =
  | 'f32'
  | 'i32'
  | 'u32'
  | 'vec2<f32>'
  | 'vec4<f32>'
  | 'vec4<i32>'
  | 'atomic<u32>'
  | 'atomic<i32>'
  /** Where half precision was asked for; nobody writes code for it, see `half.ts`. */
  | 'f16'
  | 'vec2<f16>'
  | 'vec4<f16>'

/**
 * What a shader reads or writes. On the device float32 is f32, and int32 and bool (0 or 1) are i32; the numbers of a
 * node follow each other in the order of its shape, in a buffer of their own of a multiple of 16 bytes, so that wider
 * elements can be bound where the count allows.
 */
export interface Bound {
  /** Of the variable in the code: an array of elements. */
  name: string
  of: Node | Scratch
  element: Element
  /** Whether it is written (and may be read); else it is only read. What is written is never bound twice. */
  writes?: boolean
}

export type Groups = readonly [x: number, y: number, z: number]

/** One dispatch: WGSL with an entry point `main`, to which the bindings are added. */
export interface Shader {
  /** What it is part of, for errors and profiles: 'Conv2D [128, 32, 32, 64]'. */
  label: string
  bound: readonly Bound[]
  /** Everything but the bindings. Shapes are known: they are constants in it. */
  code: string
  groups: Groups
}

/** What of the device decides how shaders are written. */
export interface Facts {
  /** Invocations that can pass values to each other directly; undefined where they cannot. */
  subgroups: { min: number; max: number } | undefined
  /** The most invocations of a workgroup. */
  invocations: number
  /** Bytes that the invocations of a workgroup share. */
  shared: number
  /** The most buffers of one shader. */
  buffers: number
  /** Whether code is to be short: a driver that computes on the processor takes minutes to compile a long one. */
  brief?: boolean
}

/** What WebGPU computes in a way of its own: shaders in the order in which they run, each seeing what those before it wrote. */
export interface GpuSpecial extends Special {
  /** `self` is the node whose numbers they write. */
  shaders(self: Node, facts: Facts): Shader[]
}

/** The most workgroups along one side. */
const mostGroups = 65_535

/** So many workgroups; in the shader the number of one is `groupIndex`, which may be above the count. */
export function groupsFor(count: number): Groups {
  if (count <= mostGroups) return [count, 1, 1]
  const rows = Math.ceil(count / mostGroups)
  return [Math.ceil(count / rows), rows, 1]
}

/** With `@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>` in the entry point. */
export const groupIndex = '(group.x + group.y * groups.x)'
