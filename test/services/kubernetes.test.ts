import { spawnSync } from 'node:child_process'
import { copyFileSync, cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { readConfig } from '../../src/config.ts'

const manifests = resolve(import.meta.dirname, '../../deploy/kubernetes')
const models = resolve(import.meta.dirname, '../../tools/node_modules')
const kustomize = ['kustomize', join(homedir(), 'go/bin/kustomize')].find(
  (name) => spawnSync(name, ['version']).status === 0,
)
const canCheck = kustomize !== undefined && existsSync(join(models, 'kubernetes-models'))

interface Container {
  name: string
  args: string[]
  image: string
  env?: { name: string; value?: string }[]
}

interface Resource {
  apiVersion: string
  kind: string
  metadata: { name: string }
  data?: Record<string, string>
  spec: { template: { spec: { containers: Container[]; initContainers?: Container[] } } }
}

/** Each with the schema that Kubernetes, or KEDA, publishes of its kind. */
async function validate(resource: Resource): Promise<void> {
  const { apiVersion, kind } = resource
  const home = apiVersion.startsWith('keda.sh') ? '@kubernetes-models/keda' : 'kubernetes-models'
  const { [kind]: Model } = (await import(join(models, home, apiVersion, `${kind}.js`))) as Record<
    string,
    new (
      of: Resource,
    ) => { validate(): void }
  >
  // Lines of base64 may be broken, which this validator does not know.
  const data = resource.data && Object.entries(resource.data).map(([key, value]) => [key, value.replace(/\s/g, '')])
  new Model!(data ? { ...resource, data: Object.fromEntries(data) } : resource).validate()
}

describe.skipIf(!canCheck)('the Kubernetes manifests', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gestalt-kubernetes-'))
  let resources: Resource[]

  function build(name: string): Resource[] {
    const { status, stdout, stderr } = spawnSync(kustomize!, ['build', join(folder, name)], { encoding: 'utf8' })
    expect([status, stderr]).toEqual([0, ''])
    return parseAllDocuments(stdout).map((document) => document.toJS() as Resource)
  }

  beforeAll(() => {
    cpSync(manifests, folder, { recursive: true })
    copyFileSync(join(folder, 'base/gestalt.env.example'), join(folder, 'base/gestalt.env'))
    resources = build('lab')
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it('are what the schemas of their kinds ask for', async () => {
    const kinds = resources.map(({ kind, metadata }) => `${kind} ${metadata.name.replace(/-\w{10}$/, '')}`)
    expect(kinds.sort()).toEqual([
      ...['Deployment api', 'Deployment worker', 'Deployment worker-gpu', 'Namespace gestalt'],
      ...['PodDisruptionBudget api', 'ScaledObject worker', 'Secret gestalt', 'Service api'],
    ])
    for (const resource of resources) await validate(resource)
    const wrong = structuredClone(resources.find(({ kind }) => kind === 'Deployment')!)
    Object.assign(wrong.spec.template.spec.containers[0]!, { image: 7 })
    await expect(validate(wrong)).rejects.toThrow(/image/)
    expect(build('base')).toHaveLength(6)
  })

  it('start processes with settings that these understand', () => {
    const secret = resources.find(({ kind }) => kind === 'Secret')!
    const given = Object.fromEntries(
      Object.entries(secret.data!).map(([name, value]) => [name, Buffer.from(value, 'base64').toString()]),
    )
    const pods = resources.filter(({ kind }) => kind === 'Deployment').map(({ spec }) => spec.template.spec)
    const containers = pods.flatMap((pod) => [...pod.containers, ...(pod.initContainers ?? [])])
    expect(containers.map(({ args }) => args.join(' ')).sort()).toEqual(['api', 'migrate', 'worker', 'worker'])
    for (const { env = [] } of containers) {
      const own = Object.fromEntries(env.map(({ name, value }) => [name, value ?? String(2 ** 33)]))
      const config = readConfig({ ...given, ...own, GESTALT_HOME: folder })
      expect(config).toMatchObject({ databaseUrl: given.DATABASE_URL, s3: { bucket: 'gestalt' } })
    }
    expect(new Set(containers.map(({ image }) => image))).toEqual(new Set(['gestalt:latest', 'gestalt-gpu:latest']))
  })
})
