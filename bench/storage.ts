// Our object store beside the plain minio client on one S3 server, which is started here (versitygw) or named by
// S3_TEST_ENDPOINT: npm run bench -- storage [ROUNDS]. Rounds are interleaved; the rows are medians.
import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { Client } from 'minio'
import { openS3 } from '../src/store/s3.ts'
import { hasS3, testS3 } from '../test/s3.ts'
import { median } from './engine/report.ts'

const rounds = Number(process.argv[3] ?? 15)
if (!Number.isInteger(rounds) || rounds < 1) {
  console.error('the number of rounds is a whole number from 1 on')
  process.exit(2)
}
if (!hasS3) {
  console.error('there is no S3 server: install versitygw, or name one with S3_TEST_ENDPOINT')
  process.exit(2)
}

const pieceSize = 2 ** 20
const piece = randomBytes(pieceSize)
const large = 200
const small = { count: 200, bytes: randomBytes(100_000) }
const folder = `runs/bench-${randomBytes(6).toString('hex')}`

/** 200 MiB, piece by piece, as a checkpoint is written. */
async function* pieces() {
  for (let n = 0; n < large; n++) yield piece
}

async function drain(stream: Readable): Promise<void> {
  for await (const _ of stream);
}

const server = await testS3()
try {
  const { config } = server
  const store = openS3(config)
  const { endPoint, port, useSSL, region, accessKey, secretKey, pathStyle, bucket } = config
  const client = new Client({ endPoint, port, useSSL, region, accessKey, secretKey, pathStyle })
  const names = Array.from({ length: small.count }, (_, n) => `${folder}/small/${n}`)
  const digest = createHash('sha256').update(small.bytes).digest('hex')

  /** What is measured: ours, and what the plain client does for the same. */
  const tasks = [
    {
      what: 'put 1 x 200 MB',
      megabytes: (large * pieceSize) / 1e6,
      ours: () => store.put(`${folder}/large`, pieces()),
      plain: () => client.putObject(bucket, `${folder}/plain-large`, Readable.from(pieces()), large * pieceSize),
    },
    {
      what: 'get 1 x 200 MB',
      megabytes: (large * pieceSize) / 1e6,
      ours: async () => drain(await store.get(`${folder}/large`)),
      plain: async () => drain(await client.getObject(bucket, `${folder}/plain-large`)),
    },
    {
      // A range is not verified, as nothing is by the plain client.
      what: 'get 1 x 200 MB unverified',
      megabytes: (large * pieceSize) / 1e6,
      ours: async () => drain(await store.get(`${folder}/large`, { start: 0, end: large * pieceSize - 1 })),
      plain: async () => drain(await client.getObject(bucket, `${folder}/plain-large`)),
    },
    {
      what: 'put 200 x 100 kB',
      megabytes: (small.count * small.bytes.length) / 1e6,
      ours: async () => {
        for (const name of names) await store.put(name, small.bytes)
      },
      plain: async () => {
        for (const name of names)
          await client.putObject(bucket, `${name}-plain`, small.bytes, small.bytes.length, { sha256: digest })
      },
    },
    {
      what: 'get 200 x 100 kB',
      megabytes: (small.count * small.bytes.length) / 1e6,
      ours: async () => {
        for (const name of names) await drain(await store.get(name))
      },
      plain: async () => {
        for (const name of names) await drain(await client.getObject(bucket, `${name}-plain`))
      },
    },
  ]

  const seconds = async (work: () => Promise<unknown>) => {
    const began = performance.now()
    await work()
    return (performance.now() - began) / 1000
  }
  const round = (value: number, factor: number) => Math.round(value * factor) / factor
  const times = tasks.map(() => ({ ours: [] as number[], plain: [] as number[] }))
  // The first round is for warming up.
  for (let n = 0; n <= rounds; n++)
    for (const [place, { ours, plain }] of tasks.entries()) {
      // Who goes first alternates.
      const order = n % 2 === 0 ? (['ours', 'plain'] as const) : (['plain', 'ours'] as const)
      for (const side of order) {
        const taken = await seconds(side === 'ours' ? ours : plain)
        if (n > 0) times[place]![side].push(taken)
      }
    }
  const rows = tasks.map(({ what, megabytes }, place) => {
    const [ours, plain] = [median(times[place]!.ours), median(times[place]!.plain)]
    return {
      what,
      megabytesPerSecond: round(megabytes / ours, 10),
      plainMegabytesPerSecond: round(megabytes / plain, 10),
      ratio: round(plain / ours, 100),
    }
  })
  for await (const { key } of store.list(folder)) await store.remove(key)
  console.log(JSON.stringify({ bench: 'storage', rows }))
} finally {
  server.stop()
}
