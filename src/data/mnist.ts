import { knownFiles } from './known-files.ts'
import { defineMnist } from './mnist-family.ts'

const size = { train: 60_000, test: 10_000 }

export const mnist = defineMnist({
  name: 'mnist',
  title: 'MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28 grey, 10 classes',
  source: 'LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document recognition',
  size,
  classNames: ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'],
  files: knownFiles.mnist,
  cure: 'add it: gestalt dataset add mnist --from DIR|URL',
})

export const kmnist = defineMnist({
  name: 'kmnist',
  title: 'Kuzushiji-MNIST: 60,000 training and 10,000 test images of cursive characters, 28 x 28 grey, 10 classes',
  source: 'Clanuwat et al. 2018, arXiv:1812.01718 (CC BY-SA 4.0)',
  size,
  classNames: ['o', 'ki', 'su', 'tsu', 'na', 'ha', 'ma', 'ya', 're', 'wo'],
  files: knownFiles.kmnist,
  cure: 'add it: gestalt dataset add kmnist --from DIR|URL',
})
