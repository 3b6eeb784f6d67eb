import { existsSync, readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { ByteSource } from '../src/data/dataset.ts'
import { NotFound } from '../src/errors.ts'

/** The datasets that come with the repository. */
export const shipped = resolve(import.meta.dirname, '../datasets')

/** Where the Debian package dataset-fashion-mnist puts its files. */
export const debian = '/usr/share/datasets'

/** The files below these folders, the first that has a path wins. */
export function folderBytes(...folders: string[]): ByteSource {
  const find = (path: string) => folders.map((folder) => join(folder, path)).find((file) => existsSync(file))
  return {
    stat: async (path) => {
      const file = find(path)
      return file === undefined ? undefined : { size: statSync(file).size }
    },
    read: async (path, range) => {
      const file = find(path)
      if (file === undefined) throw new NotFound(`there is no ${path}`, 'put it there')
      return readFileSync(file).subarray(range?.start, range?.end)
    },
  }
}
