// Removes build output; node_modules stays.
import { rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
for (const name of [
  'dist',
  'build',
  'build-cmake',
  'build-cmake-asan',
  'build-cmake-tsan',
  'build-cmake-fuzz',
  'fuzz-findings',
]) {
  rmSync(join(root, name), { recursive: true, force: true })
}
