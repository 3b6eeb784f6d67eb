import { readFile } from 'node:fs/promises'
import { InvalidDefinition, NotFound } from '../errors.ts'

/** A definition from a file, or from standard input for '-'. Throws NotFound, or InvalidDefinition where it is no JSON. */
export async function readDefinition(file: string): Promise<unknown> {
  const text = await readText(file)
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new InvalidDefinition([{ pointer: '', detail: `is not JSON: ${(error as Error).message}` }], file)
  }
}

/** The text of a file, or standard input for '-'. Throws NotFound. */
export async function readText(file: string): Promise<string> {
  return (file === '-' ? readStandardInput() : readFile(file, 'utf8')).catch((cause: unknown) => {
    throw new NotFound(
      `cannot read ${file}`,
      "name a JSON file, for example one from 'recipes/', or - for standard input",
      {
        cause,
      },
    )
  })
}

async function readStandardInput(): Promise<string> {
  let text = ''
  for await (const chunk of process.stdin) text += chunk
  return text
}
