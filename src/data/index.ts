import { declared } from './declared.ts'
import { fashionMnist, fashionMnist12k } from './fashion-mnist.ts'
import { images } from './images.ts'
import { shapes } from './shapes.ts'
import { withSplitsEach } from './splits.ts'

/** Every dataset by name. The two cuts of Fashion-MNIST share a file. */
export const datasets = withSplitsEach({
  'fashion-mnist': fashionMnist,
  'fashion-mnist-12k': fashionMnist12k,
  images,
  shapes,
  declared,
})
