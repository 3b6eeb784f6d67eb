import { fileURLToPath } from 'node:url'
import { defineConfig } from 'prisma/config'

const here = (path) => fileURLToPath(new URL(path, import.meta.url))

export default defineConfig({
  schema: here('../prisma/schema.prisma'),
  migrations: { path: here('../prisma/migrations') },
  // Generating needs no database; `npm run diff` compares with this one.
  datasource: { url: process.env.DATABASE_URL ?? 'postgresql://none@127.0.0.1:1/none' },
})
