// Builds the addons and the program that benchmarks compare with, by node-gyp,
// unless they are up to date.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

function fail(message) {
  process.stderr.write(`postcopy: ${message}\n`)
  process.exit(1)
}

function works(command, args, input) {
  return spawnSync(command, args, { stdio: [input === undefined ? 'ignore' : 'pipe', 'ignore', 'ignore'], input }).status === 0
}

const outputs = ['postcopy.node', 'vcpu.node', 'lab.node', 'floor'].map((name) => join(root, 'build/Release', name))
const sources = [
  join(root, 'binding.gyp'),
  ...readdirSync(join(root, 'native'), { recursive: true })
    .map((name) => join(root, 'native', name))
    .filter((path) => /\.(cc|h|gypi)$/.test(path)),
]
const startedAtMs = Date.now()
const changedAtMs = Math.max(...sources.map((path) => statSync(path).mtimeMs))
const isOutdated = (path) => !existsSync(path) || statSync(path).mtimeMs <= changedAtMs
if (!outputs.some(isOutdated)) process.exit(0)

if (process.platform !== 'linux') fail('this package needs Linux: userfaultfd exists nowhere else.')
const compiler = process.env.CXX?.split(' ') ?? ['g++']
if (!works(compiler[0], [...compiler.slice(1), '--version'])) {
  fail(`no C++ compiler (${compiler[0]}): install the Debian package build-essential and run this again.`)
}
if (!works('make', ['--version'])) fail('no make: install the Debian package build-essential and run this again.')
if (!works('python3', ['--version'])) fail('no python3, which node-gyp needs: install the Debian package python3.')
if (!works(compiler[0], [...compiler.slice(1), '-std=c++20', '-fsyntax-only', '-x', 'c++', '-'], '#include <linux/fs.h>\n#include <memory>\n')) {
  fail('the C++ or kernel headers are missing: install the Debian packages build-essential and linux-libc-dev.')
}

/** Node's own headers, if Node ships them: otherwise node-gyp fetches them from the network. */
function headersOfNode() {
  const prefix = dirname(dirname(process.execPath))
  const header = join(prefix, 'include/node/node_version.h')
  if (process.env.npm_config_nodedir !== undefined || !existsSync(header)) return []
  const major = /^#define NODE_MAJOR_VERSION (\d+)$/m.exec(readFileSync(header, 'utf8'))?.[1]
  return major === process.versions.node.split('.')[0] ? [`--nodedir=${prefix}`] : []
}

const gyp = existsSync(join(root, 'node_modules/.bin/node-gyp')) ? join(root, 'node_modules/.bin/node-gyp') : 'node-gyp'

// The Makefile has absolute paths of this folder and of Node's headers. Make it again after a
// move, a copy, or a change of Node.
const makefile = join(root, 'build/Makefile')
const stamp = join(root, 'build/configured-for')
const configuration = `${[root, process.execPath, process.version, ...headersOfNode()].join('\n')}\n`
const isConfigured = existsSync(makefile) && existsSync(stamp) && readFileSync(stamp, 'utf8') === configuration
if (!isConfigured) rmSync(makefile, { force: true })
const command = isConfigured ? 'build' : 'rebuild'
const result = spawnSync(gyp, [command, ...headersOfNode(), '--jobs=max', '--loglevel=warn'], { cwd: root, stdio: 'inherit' })
if (existsSync(makefile)) writeFileSync(stamp, configuration)
if (result.error !== undefined) fail(`node-gyp was not found: run "npm ${existsSync(join(root, 'scripts/prepare.mjs')) ? 'ci' : 'run install'}" in ${root}.`)
if (result.status !== 0) fail('the addon was not built; the lines above say why.')

// make does not touch an output whose sources have not changed. Set its time to the start of this
// build, so that a source changed during the build is newer.
for (const path of outputs.filter(isOutdated)) utimesSync(path, startedAtMs / 1000, Math.max(startedAtMs, changedAtMs + 1) / 1000)
