import type { Case } from '../parity.ts'
import { arrangementTable } from './arrangement.ts'
import { binaryTable } from './binary.ts'
import { elementwiseTable } from './elementwise.ts'
import { imageTable } from './images.ts'
import { reductionTable } from './reductions.ts'
import { selectionTable } from './selection.ts'

/** At least one for each kernel that the engine has. */
export const cases: Case[] = [
  ...arrangementTable,
  ...binaryTable,
  ...elementwiseTable,
  ...imageTable,
  ...reductionTable,
  ...selectionTable,
]
