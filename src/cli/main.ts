import { Command, InvalidArgumentError, Option } from 'commander'
import { type Config, readConfig, softwareVersion } from '../config.ts'
import { addDatasetCommands } from './dataset-commands.ts'
import { addEngineCommands } from './engine-commands.ts'
import { exitCodes, explain, type Output, openOutput } from './output.ts'

// Each command imports what it needs when it runs, so that `gestalt --help` does not load the whole service.

// performance.now() counts from the start of the process.
const started = 0

interface Globals {
  json?: boolean
  url?: string
}

/** Reads the settings, runs the command, and turns whatever it throws into words and an exit code. */
function action<A extends unknown[]>(run: (config: Config, output: Output, ...rest: A) => Promise<number>) {
  return async (...all: unknown[]) => {
    const command = all.at(-1) as Command
    const globals = command.optsWithGlobals<Globals>()
    const output = openOutput(globals.json ?? false)
    try {
      const config = readConfig()
      const named = globals.url ? { ...config, url: globals.url.replace(/\/$/, '') } : config
      process.exitCode = await run(named, output, ...(all.slice(0, -1) as A))
    } catch (error) {
      process.exitCode = explain(error, output.json)
      const { message, cure } = error as { message?: string; cure?: string }
      process.send?.({ type: 'failed', message, cure })
    }
    // A served process has been stopped by now; what a library still holds open must not keep a command alive.
    process.exit()
  }
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text) || Number(text) < 1) throw new InvalidArgumentError('give a whole number of at least 1')
  return Number(text)
}

function seedList(text: string): number[] {
  const seeds = text.split(',')
  if (!seeds.every((seed) => /^\d{1,10}$/.test(seed) && Number(seed) < 2 ** 32))
    throw new InvalidArgumentError('give whole numbers below 4294967296, with commas between them')
  return seeds.map(Number)
}

function webAddress(text: string): string {
  if (!URL.canParse(text) || !/^https?:/.test(text))
    throw new InvalidArgumentError('give an address such as http://host:4000')
  return text
}

const program = new Command('gestalt')
  .description(
    'Train and evaluate unsupervised visual representations: post a definition, follow its run, read its results.',
  )
  .version(softwareVersion())
  .addOption(new Option('--json', 'print the result as one JSON document on the last line'))
  .option('--url <url>', 'the server to talk to (default: GESTALT_URL, or this machine)', webAddress)
  .showHelpAfterError("see 'gestalt --help'")
  .showSuggestionAfterError()
  // Commands made from here on inherit these two.
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : exitCodes.usage))
  .configureHelp({ showGlobalOptions: true })
  .addHelpText(
    'after',
    `
Examples:
  $ npx gestalt up                                       everything on this machine, until Ctrl-C
  $ npx gestalt plan recipes/npid-quick.json     what it would cost; needs no server
  $ npx gestalt submit recipes/npid-quick.json --watch
  $ npx gestalt runs --state running
  $ npx gestalt dataset add birds --from ./birds         images in a folder for each class

Exit codes: ${Object.entries(exitCodes)
      .map(([name, code]) => `${code} ${name}`)
      .join(', ')}. Settings: .env.example.`,
  )

program
  .command('up')
  .description('start everything on this machine: Postgres, the API and a worker; Ctrl-C stops it')
  .action(
    action(async (config, output) => {
      const { up } = await import('./up.ts')
      return up(config, output)
    }),
  )

program
  .command('demo')
  .description('start everything, train NPID on Fashion-MNIST, and print its accuracy beside the floors')
  .option('--exit', 'stop everything when the run has ended, also in a terminal')
  .action(
    action(async (config, output, options: { exit?: boolean }) => {
      const { demo } = await import('./demo.ts')
      return demo(config, output, { exit: options.exit ?? false, started })
    }),
  )

program
  .command('api')
  .description('start the API server alone (DATABASE_URL names its Postgres)')
  .addOption(new Option('--await-database').hideHelp())
  .action(
    action(async (config, _output, options: { awaitDatabase?: boolean }) => {
      const [{ startServer }, serve] = await Promise.all([import('../server.ts'), import('./serve.ts')])
      return serve.serveUntilStopped(await startServer(await serve.settled(config, options)))
    }),
  )

program
  .command('worker')
  .description('start one worker process alone (DATABASE_URL names its Postgres)')
  .option('--check', 'start none: exit 1 where the one on this host has fallen silent, for health checks')
  .addOption(new Option('--await-database').hideHelp())
  .action(
    action(async (config, output, options: { awaitDatabase?: boolean; check?: boolean }) => {
      if (options.check) return (await import('./worker-check.ts')).checkWorker(config, output)
      const [{ startWorker }, serve] = await Promise.all([import('../worker.ts'), import('./serve.ts')])
      return serve.serveUntilStopped(await startWorker(await serve.settled(config, options)))
    }),
  )

program
  .command('doctor')
  .description(
    'what computes on this machine, what does not and why, and which services answer; exits 1 without engine',
  )
  .action(
    action(async (config, output) => {
      const { doctor } = await import('./doctor.ts')
      return doctor(config, output)
    }),
  )

program
  .command('migrate')
  .description('bring the database of DATABASE_URL up to this version')
  .option('--grafana-role <name>', 'then let this role read the views of the dashboards, and nothing else')
  .action(
    action(async (config, output, options: { grafanaRole?: string }) => {
      const { migrateDatabase } = await import('./up.ts')
      return migrateDatabase(config, output, options)
    }),
  )

program
  .command('plan')
  .argument('<files...>', 'definitions as JSON, or - for standard input')
  .description(
    'what definitions would run and cost: steps, weights, multiply-adds, taps, memory, disk; needs no server; with --json several files give one list',
  )
  .action(
    action(async (config, output, files: string[]) => {
      const { plan } = await import('./plan.ts')
      return plan(config, output, files)
    }),
  )

program
  .command('recipes')
  .argument('[names...]', 'for example npid-quick')
  .option('--quick', 'all that a desk finishes within minutes each')
  .option('--seeds <seeds>', 'run each with these instead of its own, for example 7,8,9', seedList)
  .description('run published systems through the service and hold them against the numbers they expect')
  .action(
    action(async (config, output, names: string[], options: { quick?: boolean; seeds?: number[] }) => {
      const { runRecipes } = await import('./recipes.ts')
      return runRecipes(config, output, { names, quick: options.quick ?? false, seeds: options.seeds })
    }),
  )

program
  .command('submit')
  .argument('<file>', 'a definition as JSON, or - for standard input')
  .option('--watch', 'follow its run to the end')
  .description('post an experiment')
  .action(
    action(async (config, output, file: string, options: { watch?: boolean }) => {
      const { submit } = await import('./runs.ts')
      return submit(config, output, file, options.watch ?? false)
    }),
  )

program
  .command('watch')
  .argument('<run>', 'the id of a run')
  .description('follow a run to its end; exits 1 where it fails')
  .action(
    action(async (config, output, id: string) => {
      const { watch } = await import('./runs.ts')
      return watch(config, output, id)
    }),
  )

program
  .command('runs')
  .option('--state <state>', 'only those in this state')
  .option('--first <n>', 'how many at most', wholeNumber, 20)
  .description('list the newest runs')
  .action(
    action(async (config, output, options: { state?: string; first: number }) => {
      const { runs } = await import('./runs.ts')
      return runs(config, output, options)
    }),
  )

program
  .command('workers')
  .description('list the workers: whether they live, what they compute on, what they work on')
  .action(
    action(async (config, output) => {
      const { workers } = await import('./workers.ts')
      return workers(config, output)
    }),
  )

program
  .command('cancel')
  .argument('<run>', 'the id of a run')
  .description('ask a run to stop at its next step, with a checkpoint')
  .action(
    action(async (config, output, id: string) => {
      const { cancel } = await import('./runs.ts')
      return cancel(config, output, id)
    }),
  )

addDatasetCommands(program, action)
addEngineCommands(program, action)

const weights = program.command('weights').description('weights that were trained elsewhere, for runs to start from')

weights
  .command('add')
  .argument('<name>', 'what to call them')
  .requiredOption('--from <file>', 'a .safetensors file')
  .addOption(new Option('--map <file>', 'a name map as JSON, or - for standard input').conflicts('preset'))
  .option('--preset <preset>', 'a known naming, for example torchvision-vgg16')
  .description('send them to the server; docs/weights.md says how tensors are named')
  .action(
    action(async (config, output, name: string, options: { from: string; map?: string; preset?: string }) => {
      const { addWeights } = await import('./weights.ts')
      return addWeights(config, output, name, options)
    }),
  )

weights
  .command('list')
  .description('list those there are')
  .action(action(async (config, output) => (await import('./weights.ts')).listWeights(config, output)))

weights
  .command('remove')
  .argument('<name>', 'as the list has it')
  .description('remove weights that no run starts from')
  .action(
    action(async (config, output, name: string) => (await import('./weights.ts')).removeWeights(config, output, name)),
  )

program
  .command('export')
  .argument('<id>', 'of a run (its final or newest checkpoint), or of a checkpoint')
  .addOption(new Option('--as <format>', 'what to write').choices(['safetensors', 'onnx']).makeOptionMandatory())
  .option('--tap <tap...>', 'of onnx: the activations to make (default: the embedding)')
  .option('--names <preset>', 'of safetensors: whose names to use, for example torchvision-vgg16')
  .requiredOption('-o, --output <file>', 'where to write it')
  .description('write what was learned to a file for use elsewhere')
  .action(
    action(async (config, output, id: string, options: import('./export.ts').ExportOptions) => {
      const { exportFile } = await import('./export.ts')
      return exportFile(config, output, id, options)
    }),
  )

await program.parseAsync()
