import { arrays } from './arrays.ts'
import { cifar10, cifar100 } from './cifar.ts'
import { declared } from './declared.ts'
import { fashionMnist, fashionMnist12k } from './fashion-mnist.ts'
import { images } from './images.ts'
import { kmnist, mnist } from './mnist.ts'
import { shapes } from './shapes.ts'
import { withSplitsEach } from './splits.ts'
import { stl10 } from './stl-10.ts'

/** Every dataset by name. Sisters share a file. */
export const datasets = withSplitsEach({
  arrays,
  'cifar-10': cifar10,
  'cifar-100': cifar100,
  'fashion-mnist': fashionMnist,
  'fashion-mnist-12k': fashionMnist12k,
  images,
  kmnist,
  mnist,
  shapes,
  declared,
  'stl-10': stl10,
})
