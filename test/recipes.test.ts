import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseDefinition } from '../src/experiments/definition.ts'
import { planExperiment } from '../src/experiments/plan.ts'
import { folderBytes, shipped } from './folder-bytes.ts'

const folder = new URL('../recipes/', import.meta.url)
const recipes = readdirSync(folder).map(
  (file) => [file, JSON.parse(readFileSync(new URL(file, folder), 'utf8'))] as const,
)
const quick = recipes.filter(([file]) => file.endsWith('-quick.json'))
const paper = recipes.filter(([file]) => file.endsWith('-paper.json'))

describe('the recipes', () => {
  it('are all quick ones or those of a paper, under their own names', () => {
    expect(quick.length + paper.length).toBe(recipes.length)
    for (const [file, { name }] of recipes) expect(`${name}.json`).toBe(file)
  })

  it.each(recipes)('%s can be planned, and writes out no unknown key', async (_, recipe) => {
    const plan = await planExperiment(parseDefinition(recipe), folderBytes(shipped))
    expect(plan.weights + plan.images.train).toBeGreaterThan(0)
  })

  it.each(recipes)('%s says what to expect, and from where', (_, recipe) => {
    expect(recipe.expected.length).toBeGreaterThan(0)
    for (const { source } of recipe.expected) expect(source).toMatch(/\S{3}/)
  })

  it.each(quick)('%s states its tolerance, and the command that measured it', (file, recipe) => {
    for (const { tolerance, source } of recipe.expected) {
      expect(tolerance).toBeGreaterThan(0)
      expect(source).toContain(`npm run recipes -- ${file.replace('.json', '')}`)
    }
  })
})
