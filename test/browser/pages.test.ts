import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { newId } from '../../src/store/id.ts'
import { appendPoints } from '../../src/store/metrics.ts'
import { acceptRun, openWorld, type World } from '../api/world.ts'
import { chromiumPath, openChromium } from './chromium.ts'

const token = 'a-token-of-some-length'
/** Pictures for whoever wants to look: set SCREENSHOTS to a folder. */
const screenshots = process.env.SCREENSHOTS

describe.skipIf(!chromiumPath)('in a browser', () => {
  let browser: Browser
  let world: World
  let guarded: World
  let address: string
  let guardedAddress: string
  let runId: string
  let context: BrowserContext
  let page: Page
  let strayed: string[]
  let complaints: string[]

  beforeAll(async () => {
    world = await openWorld()
    address = await world.listen()
    guarded = await openWorld({ token, databaseUrl: world.parts.config.databaseUrl })
    guardedAddress = await guarded.listen()
    browser = await openChromium()
    runId = await acceptRun(world.parts, 'watched')
    const { attempt } = (await world.parts.ledger.begin(runId, newId()))!
    const points = Array.from({ length: 50 }, (_, step) => ({
      name: 'loss',
      step,
      value: 1 / (step + 1),
      time: new Date(),
    }))
    await appendPoints(world.parts.database.pool, { runId, attempt }, points)
  })
  afterAll(async () => {
    await browser.close()
    await guarded.close()
    await world.close()
  })

  beforeEach(async () => {
    strayed = []
    complaints = []
    context = await browser.newContext({ viewport: { width: 1280, height: 800 } })
    page = await context.newPage()
    // Whatever a page asks of another host is refused, and told.
    const own = (url: string) => ['127.0.0.1', ''].includes(new URL(url).hostname)
    await context.route(
      (url) => !own(url.href),
      (route) => {
        strayed.push(route.request().url())
        return route.abort()
      },
    )
    page.on('websocket', (socket) => own(socket.url()) || strayed.push(socket.url()))
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()))
    page.on('pageerror', (error) => complaints.push(error.message))
  })
  afterEach(async () => {
    await context.close()
  })

  async function shoot(name: string): Promise<void> {
    if (screenshots) await page.screenshot({ path: `${screenshots}/${name}.png` })
  }
  const tab = (name: string) => page.locator('.graphiql-tab-button', { hasText: name })
  /** GraphiQL reads which operation a tab holds a moment after it was opened, and sends the old name before. */
  async function openTab(name: string): Promise<void> {
    await tab(name).click()
    await page.waitForTimeout(500)
  }
  const answers = (text: string) => {
    const shown = page.locator('.graphiql-response .result-window')
    return expect.poll(() => shown.textContent(), { timeout: 15_000 }).toContain(text)
  }
  const run = () => page.getByRole('button', { name: /^Execute query/ }).click()

  it('runs a query and a subscription in the playground, with nothing from elsewhere', async () => {
    await page.goto(`${address}/graphiql`)
    await tab('Runs').waitFor()
    await run()
    await answers('"name": "watched"')
    await shoot('playground-query')

    await openTab('Curve')
    await run()
    await answers('"sampled": false')

    await openTab('Submit')
    await run()
    await answers('"notes": ""')

    await openTab('Follow')
    await run()
    await answers('"state": "running"')
    await world.parts.ledger.requestCancel(runId)
    await world.parts.ledger.end({ runId, attempt: 1 }, { state: 'cancelled' })
    await answers('"state": "cancelled"')
    await shoot('playground-subscription')
    expect(strayed).toEqual([])
    expect(complaints).toEqual([])
  })

  it('sends the token of the Headers tab with queries and subscriptions', async () => {
    await page.goto(`${guardedAddress}/graphiql`)
    await tab('Runs').waitFor()
    await run()
    await answers('unauthorized')
    for (const name of ['Runs', 'Follow']) {
      await openTab(name)
      await page.getByRole('button', { name: 'Headers', exact: true }).click()
      await page.locator('.graphiql-editor-tool .graphiql-editor:not(.hidden) .CodeMirror').click()
      await page.keyboard.insertText(JSON.stringify({ authorization: `Bearer ${token}` }))
      if (name === 'Follow') {
        await page.getByRole('button', { name: 'Variables', exact: true }).click()
        await page.locator('.graphiql-editor-tool .graphiql-editor:not(.hidden) .CodeMirror').click()
        await page.keyboard.press('Control+A')
        await page.keyboard.insertText(JSON.stringify({ id: runId }))
      }
      await run()
      await answers('"state": "')
    }
    expect(strayed).toEqual([])
    // The introspection and the first query were refused for want of a token, which a browser notes.
    expect(complaints.filter((text) => !text.includes('401'))).toEqual([])
  })

  it('shows the documentation, with nothing from elsewhere', async () => {
    await page.goto(`${address}/docs`)
    await page.getByText('Accept an experiment, or plan it').waitFor()
    await page.getByText('Accept an experiment, or plan it').click()
    await page.getByText('Idempotency-Key', { exact: false }).first().waitFor()
    await shoot('documentation')
    expect(strayed).toEqual([])
    expect(complaints).toEqual([])
  })
})
