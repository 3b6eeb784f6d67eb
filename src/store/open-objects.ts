import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '../config.ts'
import { Unavailable } from '../errors.ts'
import { openDirectory } from './directory.ts'
import type { ObjectStore } from './objects.ts'
import { openS3 } from './s3.ts'
import type { Persistence } from './s3-tries.ts'

type ObjectSettings = Pick<Config, 'home' | 's3' | 'secret' | 'publicUrl'>

/** The object store that the settings name: an S3 bucket, or else the folder `objects` of the home. */
export function openObjects(config: ObjectSettings, options: Partial<Persistence> = {}): ObjectStore {
  const { home, s3, secret, publicUrl } = config
  return s3 ? openS3(s3, options) : openDirectory({ root: join(home, 'objects'), secret, publicUrl })
}

/** The same, after it has been found fit for use; Unavailable where it was not within `patienceSeconds`. */
export async function openCheckedObjects(config: ObjectSettings, patienceSeconds: number): Promise<ObjectStore> {
  const objects = openObjects(config)
  const until = Date.now() + patienceSeconds * 1000
  for (let pause = 100; ; pause = Math.min(pause * 2, 2000))
    try {
      await objects.check()
      return objects
    } catch (error) {
      if (!(error instanceof Unavailable) || Date.now() + pause > until) throw error
      await sleep(pause)
    }
}
