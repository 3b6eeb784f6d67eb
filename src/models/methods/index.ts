import { deepAutoencoder } from './deep-autoencoder.ts'
import { deepcluster } from './deepcluster.ts'
import { kmeansPatches } from './kmeans-patches.ts'
import { npid } from './npid.ts'
import { pca } from './pca.ts'
import { randomFilters } from './random-filters.ts'
import { rawPixels } from './raw-pixels.ts'
import { supervised } from './supervised.ts'
import { swwae } from './swwae.ts'
import { untrained } from './untrained.ts'
import { whatWhere } from './what-where.ts'

/** Every method, by name. */
export const methods = {
  'deep-autoencoder': deepAutoencoder,
  deepcluster,
  'kmeans-patches': kmeansPatches,
  npid,
  pca,
  'random-filters': randomFilters,
  'raw-pixels': rawPixels,
  supervised,
  swwae,
  untrained,
  'what-where': whatWhere,
}
