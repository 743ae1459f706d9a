// Bundles each process and thread of its own into few files, because it starts faster than from its
// modules (docs/development.md). The library itself stays as it was compiled.
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))
const outdir = join(root, 'dist/bundle')

/** Keep in step with `BundledEntry` in src/kernel/package-info.ts. */
const entries = [
  'cli/main',
  'source/worker',
  'destination/worker',
  'park/worker',
  'park/spill-worker',
]

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: entries.map((entry) => `src/${entry}.ts`),
  outbase: 'src',
  outdir,
  // Chunks are as deep as dist/src/ROOM, so the package's root has the same
  // relative path from both.
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  packages: 'external',
  sourcemap: 'linked',
  metafile: true,
  logLevel: 'warning',
})

// Remove the chunks of an earlier build. A process that started from them has loaded them already.
const made = new Set(Object.keys(metafile.outputs).map((file) => join(root, file)))
for (const name of readdirSync(join(outdir, 'chunks'))) {
  const file = join(outdir, 'chunks', name)
  if (!made.has(file)) rmSync(file)
}
