import { alexnet } from './alexnet.ts'
import { resnet } from './resnet.ts'
import { small } from './small.ts'
import { vgg } from './vgg.ts'

/** Every family of nets, by name. */
export const nets = { small, alexnet, vgg, resnet }
