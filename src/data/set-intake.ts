import { InvalidDefinition } from '../errors.ts'
import { type ImageCheck, inspectImage } from './inspection.ts'
import type { Sample, SetLimits } from './set-samples.ts'

/** An image that cannot be used, and why. */
export interface DamagedImage {
  name: string
  reason: string
}

export interface CheckedSample {
  sample: Sample
  shape: { height: number; width: number; channels: number }
}

export interface IntakeOptions {
  limits: SetLimits
  /** Header: its format and size are read. Pixels: all of it is decoded. */
  check: ImageCheck
  /** Leave damaged images out, instead of refusing the set. */
  skipDamaged: boolean
}

/** What was left out on the way. */
export interface IntakeReport {
  damaged: { count: number; first: DamagedImage[] }
  /** Files that are neither images nor labels, by extension. */
  passedOver: Record<string, number>
}

/** Images at once, and their bytes together: what the checks may hold in memory. */
const window = 16
const windowBytes = 64 * 2 ** 20
const mostNamed = 100

export function openReport(): IntakeReport & { passOver(name: string): void } {
  const report: IntakeReport = { damaged: { count: 0, first: [] }, passedOver: {} }
  return {
    ...report,
    passOver(name) {
      const [extension = 'no extension'] = /\.[A-Za-z0-9]{1,10}$/.exec(name) ?? []
      const known = extension in report.passedOver || Object.keys(report.passedOver).length < mostNamed
      const word = known ? extension : 'others'
      report.passedOver[word] = (report.passedOver[word] ?? 0) + 1
    },
  }
}

async function judge({ image }: Sample, { limits, check }: IntakeOptions): Promise<CheckedSample['shape'] | string> {
  if (!image.bytes) return `'${image.name}' takes ${image.size} bytes; at most ${limits.imageBytes} are read`
  return inspectImage(`'${image.name}'`, image.bytes, check)
}

/** Throws InvalidDefinition, which names the damaged images, where they are not to be left out. */
export function refuseDamaged({ damaged }: IntakeReport): void {
  if (damaged.count === 0) return
  const faults = damaged.first.map(({ reason }) => ({ pointer: '', detail: reason }))
  if (damaged.count > faults.length) faults.push({ pointer: '', detail: `and ${damaged.count - faults.length} more` })
  throw new InvalidDefinition(faults, 'the set')
}

/**
 * The samples whose image is sound, in their order, several at a time under the eyes of the decoder. Damaged ones are
 * told to the report. Where they are not to be left out, the rest is looked through for others, up to a hundred, and
 * then refused with their names.
 */
export async function* soundSamples(
  samples: AsyncIterable<Sample>,
  report: IntakeReport,
  options: IntakeOptions,
): AsyncGenerator<CheckedSample, void, undefined> {
  const coming: { sample: Sample; verdict: ReturnType<typeof judge> }[] = []
  let held = 0
  const next = async (): Promise<CheckedSample | undefined> => {
    const { sample, verdict } = coming.shift()!
    held -= sample.image.bytes?.length ?? 0
    const found = await verdict
    if (typeof found !== 'string') return { sample, shape: found }
    report.damaged.count++
    if (report.damaged.first.length < mostNamed) report.damaged.first.push({ name: sample.image.name, reason: found })
    if (!options.skipDamaged && report.damaged.count >= mostNamed) refuseDamaged(report)
    return undefined
  }
  for await (const sample of samples) {
    const verdict = judge(sample, options)
    verdict.catch(() => {})
    coming.push({ sample, verdict })
    held += sample.image.bytes?.length ?? 0
    while (coming.length >= window || (held > windowBytes && coming.length > 0)) {
      const sound = await next()
      if (sound) yield sound
    }
  }
  while (coming.length > 0) {
    const sound = await next()
    if (sound) yield sound
  }
  if (!options.skipDamaged) refuseDamaged(report)
}
