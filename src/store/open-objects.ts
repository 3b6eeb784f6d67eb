import { join } from 'node:path'
import type { Config } from '../config.ts'
import { openDirectory } from './directory.ts'
import type { ObjectStore } from './objects.ts'
import { openS3 } from './s3.ts'

/** The object store that the settings name: an S3 bucket, or else the folder `objects` of the home. */
export function openObjects(config: Pick<Config, 'home' | 's3' | 'secret' | 'publicUrl'>): ObjectStore {
  const { home, s3, secret, publicUrl } = config
  return s3 ? openS3(s3) : openDirectory({ root: join(home, 'objects'), secret, publicUrl })
}
