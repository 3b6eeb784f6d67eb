import { createInterface } from 'node:readline'

/**
 * Answers each line of JSON on standard input with one line of JSON on standard output, one after the other; with `error`
 * where that goes wrong. Returns when the input ends.
 */
export async function answerLines<Command>(answer: (command: Command) => object | Promise<object>): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    let found: object
    try {
      found = await answer(JSON.parse(line))
    } catch (error) {
      found = { error: String(error) }
    }
    process.stdout.write(`${JSON.stringify(found)}\n`)
  }
}
