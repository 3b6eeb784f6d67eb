import { defineConfig } from 'vitest/config'

// As Node resolves it: Vite would load the ESM build of graphql beside the CommonJS one that mercurius uses.
const resolve = { alias: [{ find: /^graphql$/, replacement: 'graphql/index.js' }] }

/** Files that change nothing about the process they run in: they share processes, and with them what is loaded. */
const sharing = ['test/data/**', 'test/models/**', 'test/experiments/**'].map((folder) => `${folder}/*.test.ts`)

const limits = { pool: 'forks', testTimeout: 60_000, hookTimeout: 60_000 } as const

export default defineConfig({
  test: {
    globalSetup: ['test/global.ts'],
    // Much of the time is spent waiting for services that start, stop and fail.
    maxWorkers: 3,
    projects: [
      { resolve, test: { ...limits, name: 'alone', include: ['test/**/*.test.ts'], exclude: sharing } },
      { resolve, test: { ...limits, name: 'sharing', include: sharing, isolate: false } },
    ],
  },
})
