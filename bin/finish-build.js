// Puts beside the compiled code what it reads at run time.
import { cpSync } from 'node:fs'

cpSync('src/api/graphql/schema.graphql', 'dist/api/graphql/schema.graphql')
cpSync('src/api/playground', 'dist/api/playground', { recursive: true })
