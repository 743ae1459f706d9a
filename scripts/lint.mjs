// Checks both languages: eslint and prettier for TypeScript, clang-format and clang-tidy for C++.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
let failed = false

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (result.error?.code === 'ENOENT') {
    process.stderr.write(`postcopy: no ${command}: install the Debian package of that name.\n`)
    failed = true
  } else if (result.status !== 0) failed = true
}

run('node_modules/.bin/eslint', ['--max-warnings=0', '.'])
run('node_modules/.bin/depcruise', ['--config', 'scripts/import-rules.mjs', 'src'])
run('node_modules/.bin/prettier', [
  '--check',
  '--log-level=warn',
  'src',
  'test',
  'scripts',
  '*.json',
  '*.mjs',
])
const cxx = readdirSync(join(root, 'native'), { recursive: true })
  .filter((name) => /\.(cc|h)$/.test(name))
  .map((name) => `native/${name}`)
run('clang-format', ['--dry-run', '--Werror', ...cxx])
if (existsSync(join(root, 'build-cmake/compile_commands.json'))) {
  // A few files at a time per processor. Its stderr only counts suppressed
  // warnings, so it is held back.
  const tidy = spawnSync(
    'xargs',
    ['-P', String(availableParallelism()), '-n', '3', 'clang-tidy', '--quiet', '-p', 'build-cmake'],
    {
      cwd: root,
      input: cxx.filter((name) => name.endsWith('.cc')).join('\n'),
      stdio: ['pipe', 'inherit', 'pipe'],
    },
  )
  if (tidy.status !== 0) {
    process.stderr.write(tidy.stderr)
    failed = true
  }
} else {
  process.stderr.write(
    'postcopy: clang-tidy skipped: make build-cmake first (docs/development.md).\n',
  )
}
process.exit(failed ? 1 : 0)
