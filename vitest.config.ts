import { defineConfig } from 'vitest/config'

export default defineConfig({
  // As Node resolves it: Vite would load the ESM build of graphql beside the CommonJS one that mercurius uses.
  resolve: { alias: [{ find: /^graphql$/, replacement: 'graphql/index.js' }] },
  test: {
    pool: 'forks',
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/global.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Much of the time is spent waiting for services that start, stop and fail.
    maxWorkers: 3,
  },
})
