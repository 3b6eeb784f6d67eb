import type { NameMap } from './name-map.ts'

type Tensors = NameMap['tensors']

/** A batch norm as PyTorch keeps it. */
function norm(theirs: string, ours: string): Tensors {
  return {
    [`${theirs}.weight`]: `weights/${ours}/scale`,
    [`${theirs}.bias`]: `weights/${ours}/offset`,
    [`${theirs}.running_mean`]: `memory/${ours}/mean`,
    [`${theirs}.running_var`]: `memory/${ours}/variance`,
  }
}

/** A dense layer; `cells` where it reads flattened images. */
function dense(theirs: string, ours: string, cells?: [number, number]): Tensors {
  const weights = `weights/${ours}/weights`
  return {
    [`${theirs}.weight`]: cells ? { to: weights, cells } : weights,
    [`${theirs}.bias`]: `weights/${ours}/bias`,
  }
}

function biased(theirs: string, ours: string): Tensors {
  return { [`${theirs}.weight`]: `weights/${ours}/filter`, [`${theirs}.bias`]: `weights/${ours}/bias` }
}

/** Counts of batches, which nothing here needs, are left out; the head may be missing. */
function preset(head: string, parts: readonly Tensors[]): NameMap {
  return {
    tensors: Object.assign({}, ...parts, dense(head, 'head')),
    ignore: ['*.num_batches_tracked'],
    optional: [`${head}.weight`, `${head}.bias`],
  }
}

/** torchvision numbers all layers of `features`, also those without weights. */
function vgg(stages: readonly number[], normed: boolean): NameMap {
  const parts: Tensors[] = []
  let at = 0
  for (const [stage, count] of stages.entries()) {
    for (let i = 1; i <= count; i++) {
      const name = `${stage + 1}_${i}`
      parts.push(biased(`features.${at++}`, `conv${name}`))
      if (normed) parts.push(norm(`features.${at++}`, `norm${name}`))
      at++ // the relu
    }
    at++ // the pool
  }
  return preset('classifier.6', [...parts, dense('classifier.0', 'fc6', [7, 7]), dense('classifier.3', 'fc7')])
}

function resnet(stages: readonly number[], convolutions: number): NameMap {
  const filter = (theirs: string, ours: string): Tensors => ({ [`${theirs}.weight`]: `weights/${ours}/filter` })
  const parts: Tensors[] = [filter('conv1', 'conv1'), norm('bn1', 'norm1')]
  for (const [stage, count] of stages.entries())
    for (let block = 0; block < count; block++) {
      const [theirs, ours] = [`layer${stage + 1}.${block}`, `block${stage + 1}_${block + 1}`]
      for (let i = 1; i <= convolutions; i++)
        parts.push(filter(`${theirs}.conv${i}`, `${ours}/conv${i}`), norm(`${theirs}.bn${i}`, `${ours}/norm${i}`))
      // Only where the shape changes.
      if (block === 0 && (stage > 0 || convolutions === 3))
        parts.push(filter(`${theirs}.downsample.0`, `${ours}/conv0`), norm(`${theirs}.downsample.1`, `${ours}/norm0`))
    }
  return preset('fc', parts)
}

const alexnet = preset('classifier.6', [
  ...[0, 3, 6, 8, 10].map((at, i) => biased(`features.${at}`, `conv${i + 1}`)),
  dense('classifier.1', 'fc6', [6, 6]),
  dense('classifier.4', 'fc7'),
])

/** Name maps of nets as torchvision saves them, by name; their images are standardised (input: imagenet). */
export const presets: Record<string, NameMap> = {
  'torchvision-alexnet': alexnet,
  'torchvision-vgg11': vgg([1, 1, 2, 2, 2], false),
  'torchvision-vgg13': vgg([2, 2, 2, 2, 2], false),
  'torchvision-vgg16': vgg([2, 2, 3, 3, 3], false),
  'torchvision-vgg16-bn': vgg([2, 2, 3, 3, 3], true),
  'torchvision-vgg19': vgg([2, 2, 4, 4, 4], false),
  'torchvision-resnet18': resnet([2, 2, 2, 2], 2),
  'torchvision-resnet34': resnet([3, 4, 6, 3], 2),
  'torchvision-resnet50': resnet([3, 4, 6, 3], 3),
  'torchvision-resnet101': resnet([3, 4, 23, 3], 3),
}
