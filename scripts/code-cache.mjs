// Makes V8's code cache of the bundle for this version of Node (src/bundle-loader.ts). Also runs when
// the package is installed. The bundle works without it.
import { existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'

const bundle = fileURLToPath(new URL('../dist/bundle', import.meta.url))

/** What the command does before it runs: the functions for that are in its cache, and no others. */
const starts = ['demo', 'guest', 'park', 'resume', 'export', 'inspect', 'doctor', 'lab']

async function scriptOfCommand(pack) {
  const script = pack.compile()
  pack.compile = () => script
  const { output } = pack.load('cli/output')
  const { runCommandLine } = pack.load('cli/run-command-line')
  const nowhere = () => new Writable({ write: (_chunk, _encoding, done) => done() })
  const restore = output.redirect(nowhere(), nowhere())
  for (const name of starts) await runCommandLine([name, '--help'])
  restore()
  return script
}

/** Compiles all functions: most of a worker runs soon after its start. */
function scriptOfWorker(pack) {
  setFlagsFromString('--no-lazy')
  const script = pack.compile()
  setFlagsFromString('--lazy') // a cache is valid only for the flags that it was made with
  return script
}

async function makeCaches() {
  const { Pack } = createRequire(import.meta.url)(join(bundle, 'loader.js'))
  for (const file of readdirSync(bundle).filter((name) => /-[0-9a-f]{12}\.js$/.test(name))) {
    const pack = new Pack(bundle, file)
    const script = await (file.startsWith('cli-') ? scriptOfCommand(pack) : scriptOfWorker(pack))
    mkdirSync(dirname(pack.cachePath), { recursive: true })
    // Renamed, so that a command that starts meanwhile never reads half of it.
    writeFileSync(`${pack.cachePath}.new`, script.createCachedData())
    renameSync(`${pack.cachePath}.new`, pack.cachePath)
  }
}

// Without the bundle: when npm installs the dependencies of a clone.
if (existsSync(join(bundle, 'loader.js'))) {
  try {
    await makeCaches()
  } catch (error) {
    process.stderr.write(`postcopy: no code cache, so commands start later: ${error.message}\n`)
  }
}
