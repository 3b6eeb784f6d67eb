import { describe, expect, it } from 'vitest'
import { contactSheet } from '../../src/data/contact-sheet.ts'
import { decodePicture, inspectPicture } from '../../src/data/decoding.ts'

describe('a contact sheet', () => {
  it('shows images in rows, enlarged, with white between them and where there is none', async () => {
    // Two images of 28 x 28, one dark and one grey, each with one bright pixel in its corner.
    const data = new Uint8Array(2 * 28 * 28).fill(10)
    data.fill(120, 28 * 28)
    data[0] = 200
    const sheet = await contactSheet({ data, shape: [28, 28, 1] }, [[1, 0], [-1]])
    // Twice as large, 2 cells around each.
    expect(await inspectPicture('sheet', sheet)).toMatchObject({ format: 'png', width: 118, height: 118 })
    const seen = await decodePicture('sheet', sheet, { shape: [118, 118, 1], fit: 'stretch' })
    const at = (y: number, x: number) => seen[y * 118 + x]
    expect([at(0, 0), at(2, 2), at(57, 57), at(58, 58)]).toEqual([255, 120, 120, 255])
    expect([at(2, 60), at(3, 61), at(4, 60), at(57, 115)]).toEqual([200, 200, 10, 10])
    expect([at(60, 2), at(90, 90)]).toEqual([255, 255])
  })

  it('shows large images in colour, reduced', async () => {
    const data = Uint8Array.from({ length: 3 * 224 * 112 }, (_, i) => [9, 90, 200][i % 3]!)
    const sheet = await contactSheet({ data, shape: [224, 112, 3] }, [[0]])
    expect(await inspectPicture('sheet', sheet)).toMatchObject({ width: 32, height: 60 })
    const seen = await decodePicture('sheet', sheet, { shape: [60, 32, 3], fit: 'stretch' })
    expect([...seen.subarray((30 * 32 + 16) * 3, (30 * 32 + 16) * 3 + 3)]).toEqual([9, 90, 200])
  })

  it('is a sheet without images where there are none', async () => {
    const sheet = await contactSheet({ data: new Uint8Array(0), shape: [28, 28, 1] }, [])
    expect((await inspectPicture('sheet', sheet)).height).toBe(2)
  })
})
