import { contactSheet } from '../data/contact-sheet.ts'
import type { Dataset } from '../data/dataset.ts'
import type { Picture } from './evaluation.ts'
import { countClusters } from './math/pseudo-labels.ts'

/** What is known of the images' clusters, [size] each: the cluster (-1: none) and how far from its centre. */
export interface Clustered {
  clusters: ArrayLike<number>
  distances: ArrayLike<number>
  k: number
}

/** Clusters on a sheet, at most, and images of each. */
const rowsShown = 24
const columnsShown = 16

/** The images of each wanted cluster that are nearest to its centre, the nearest first. */
function nearestOf({ clusters, distances }: Clustered, wanted: readonly number[]): number[][] {
  const members = new Map(wanted.map((cluster) => [cluster, [] as number[]]))
  for (let i = 0; i < clusters.length; i++) members.get(clusters[i]!)?.push(i)
  return wanted.map((cluster) =>
    members
      .get(cluster)!
      .sort((a, b) => distances[a]! - distances[b]! || a - b)
      .slice(0, columnsShown),
  )
}

/** Clusters that have images, the largest first. */
function bySize({ clusters, k }: Clustered): { cluster: number; size: number }[] {
  const sizes = countClusters(clusters, k)
  return Array.from(sizes, (size, cluster) => ({ cluster, size }))
    .filter(({ size }) => size > 0)
    .sort((a, b) => b.size - a.size || a.cluster - b.cluster)
}

/**
 * A row of images for each of some clusters, from the largest to the smallest: those nearest to its centre, the nearest
 * first. Where there are many clusters, some of every size.
 */
export async function drawClusters(clustered: Clustered, corpus: Dataset): Promise<Picture> {
  const used = bySize(clustered)
  const shown = Math.min(rowsShown, used.length)
  const wanted = Array.from({ length: shown }, (_, i) => used[Math.floor((i * used.length) / shown)]!.cluster)
  const rows = nearestOf(clustered, wanted)
  const pixels = await corpus.read(rows.flat())
  let next = 0
  const places = rows.map((row) => row.map(() => next++))
  return { name: 'clusters', type: 'image/png', bytes: await contactSheet(pixels, places) }
}

const width = 640
const height = 240
const margin = 36

/** A bar for each cluster that has images, the largest first, and a line at what all would have alike. */
export function drawSizes(clustered: Clustered): Picture {
  const used = bySize(clustered)
  const most = used[0]?.size ?? 1
  const even = clustered.clusters.length / Math.max(1, used.length)
  const y = (size: number) => height - margin - (size / Math.max(most, even)) * (height - 2 * margin)
  const bar = (width - 2 * margin) / Math.max(1, used.length)
  // One path for all bars: there may be tens of thousands.
  const bars = used
    .map(
      ({ size }, i) =>
        `M${(margin + i * bar).toFixed(2)} ${height - margin}V${y(size).toFixed(1)}h${bar.toFixed(2)}V${height - margin}z`,
    )
    .join('')
  const title = `${used.length} clusters of ${most} to ${used.at(-1)?.size ?? 0} images`
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="${margin}" y="22">${title}</text>
<path d="${bars}" fill="#4a7ab5"/>
<path d="M${margin} ${y(even).toFixed(1)}H${width - margin}" stroke="#c44" stroke-dasharray="4 3"/>
<text x="${width - margin}" y="${(y(even) - 4).toFixed(1)}" text-anchor="end" fill="#c44">even: ${even.toFixed(1)}</text>
<text x="${margin - 4}" y="${(y(most) + 4).toFixed(1)}" text-anchor="end">${most}</text>
<text x="${margin}" y="${height - margin + 16}">clusters, the largest first</text>
</svg>
`
  return { name: 'cluster sizes', type: 'image/svg+xml', bytes: new TextEncoder().encode(svg) }
}
