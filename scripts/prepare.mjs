// Makes a clone ready to run: dependencies, addon, TypeScript. Skips what is up to date.
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

function run(command, args) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}

const installed = join(root, 'node_modules/.package-lock.json')
const lock = join(root, 'package-lock.json')
if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(lock).mtimeMs) {
  process.stderr.write('postcopy: installing dependencies\n')
  run('npm', ['ci', '--no-progress', '--loglevel=error'])
}
run(process.execPath, [join(root, 'scripts/build-addon.mjs')])
run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', root])
run(process.execPath, [join(root, 'scripts/bundle.mjs')])
run(process.execPath, [join(root, 'scripts/code-cache.mjs')])
const cli = join(root, 'dist/bundle/cli/main.js')
if (existsSync(cli)) chmodSync(cli, 0o755)
