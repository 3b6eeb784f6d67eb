import { defineConfig } from 'vitest/config'

export default defineConfig({
  // As Node resolves it: Vite would load the ESM build of graphql beside the CommonJS one that mercurius uses.
  resolve: { alias: [{ find: /^graphql$/, replacement: 'graphql/index.js' }] },
  test: {
    pool: 'forks',
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/global.ts'],
    // A machine that many share may be ten times as slow as it is alone: what hangs is told apart from that by this.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    // Much of the time is spent waiting for services that start, stop and fail.
    maxWorkers: 3,
  },
})
