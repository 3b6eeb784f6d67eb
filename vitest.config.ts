import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

// As Node resolves it: Vite would load the ESM build of graphql beside the CommonJS one that mercurius uses.
const resolve = { alias: [{ find: /^graphql$/, replacement: 'graphql/index.js' }] }

/** Files that change nothing about the process they run in: they share processes, and with them what is loaded. */
const sharing = ['test/data/**', 'test/models/**', 'test/experiments/**'].map((folder) => `${folder}/*.test.ts`)

/** What takes longest, which is to begin first: in a fresh clone vitest does not know. */
const long = ['production', 'chaos', 'cli/doctor', 'jobs', 'cli', 'services', 'store', 'engine', 'bench']

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const place = long.findIndex((name) => moduleId.includes(`/test/${name}`))
      return place < 0 ? long.length : place
    }
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b))
  }
}

const limits = { pool: 'forks', testTimeout: 60_000, hookTimeout: 60_000 } as const

export default defineConfig({
  test: {
    globalSetup: ['test/global.ts'],
    sequence: { sequencer: LongestFirst },
    // Much of the time is spent waiting for services that start, stop and fail.
    maxWorkers: 3,
    projects: [
      { resolve, test: { ...limits, name: 'alone', include: ['test/**/*.test.ts'], exclude: sharing } },
      { resolve, test: { ...limits, name: 'sharing', include: sharing, isolate: false } },
    ],
  },
})
