import { fashionMnist, fashionMnist12k } from './fashion-mnist.ts'
import { shapes } from './shapes.ts'

/** Every dataset by name. The two cuts of Fashion-MNIST share a file. */
export const datasets = {
  'fashion-mnist': fashionMnist,
  'fashion-mnist-12k': fashionMnist12k,
  shapes,
}
