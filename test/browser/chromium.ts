import { accessSync, constants } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

const places = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/** The Chromium to test with: $CHROMIUM, or one where Linux puts it; undefined where there is none. */
export const chromiumPath = places.find((path) => {
  try {
    if (path) accessSync(path, constants.X_OK)
    return Boolean(path)
  } catch {
    return false
  }
})

/** Headless, and without the calls home that Chromium makes by itself. */
export function openChromium(): Promise<Browser> {
  const quiet = ['--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update']
  const args = ['--no-sandbox', '--disable-gpu', '--disable-sync', '--disable-dev-shm-usage', ...quiet]
  return chromium.launch({ executablePath: chromiumPath, headless: true, args })
}
