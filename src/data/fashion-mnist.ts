import { knownFiles } from './known-files.ts'
import { defineMnist } from './mnist-family.ts'

const classNames = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
]

const source = 'Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747 (MIT licence)'

/** All of Fashion-MNIST, where it was added or is installed. */
export const fashionMnist = defineMnist({
  name: 'fashion-mnist',
  title: 'Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28 grey, 10 classes',
  source,
  size: { train: 60_000, test: 10_000 },
  classNames,
  files: knownFiles['fashion-mnist'],
  cure: 'add it: gestalt dataset add fashion-mnist --from DIR|URL, or install the Debian package dataset-fashion-mnist',
})

/** The part that comes with the installation. */
export const fashionMnist12k = defineMnist({
  name: 'fashion-mnist-12k',
  title: 'Fashion-MNIST, the first 10,000 training and 2,000 test images',
  source,
  size: { train: 10_000, test: 2_000 },
  classNames,
  files: knownFiles['fashion-mnist-12k'],
  cure: 'these files come with the installation, in its folder datasets/; restore them',
})
