// Bundles each program, that is, the command and each worker, into one script, because it starts faster
// than from its modules (docs/development.md). The library itself stays as it was compiled.
//
// src/bundle-loader.ts runs the scripts. A worker's script is one module. The script of the command has
// all its modules, and each is evaluated when one of its exports is first used: a command needs few.
import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))
const outdir = join(root, 'dist/bundle')

/** Keep both in step with `BundledEntry` in src/kernel/package-info.ts. */
const command = 'cli/main'
const workers = ['source/worker', 'destination/worker', 'park/worker', 'park/spill-worker']

/** Packages that are part of the command's script. */
const packages = ['cli-table3', 'commander']

/** Modules that draw. They need echarts, so `import()` loads them from dist/src. */
const drawing = ['cli/report/index', 'lab/report-page']

const common = {
  absWorkingDir: root,
  outdir,
  write: false,
  format: 'cjs',
  platform: 'node',
  target: 'node20',
  charset: 'ascii',
  minifyWhitespace: true, // less to read, and no comments, which may have other characters
  define: { 'import.meta.url': '__url' },
  logLevel: 'warning',
  logOverride: { 'empty-import-meta': 'silent' },
}

const nameOf = (file) => relative(join(root, 'src'), file).replace(/\.[jt]s$/, '')

/** An entry of a script's object of modules, called by src/bundle-loader.ts. */
const entry = (name, code) =>
  `${JSON.stringify(name)}:function(module,require,__import,__url){${code.replace(/^#!.*\n/, '')}}`

/** Replaces paths by names of modules in the script. */
function resolveImports(code, folder) {
  const name = (path) => (path.startsWith('.') ? nameOf(join(root, 'src', folder, path)) : path)
  const later = (path) =>
    drawing.includes(name(path)) ? `new URL(${JSON.stringify(path)},__url).href` : `"${name(path)}"`
  return code
    .replaceAll(/\brequire\("(\.[^"]+)"\)/g, (_, path) => `require("${name(path)}")`)
    .replaceAll(/\bimport\("(\.[^"]+)"\)/g, (_, path) => `import(${later(path)})`)
    .replaceAll(/\bimport\(/g, '__import(')
}

/** Makes the imports of a module load when they are used. */
function loadOnUse(code) {
  const imports = /\bvar (import_\w+)=(__toESM\(require\("[^"]+"\)(?:,1)?\)|require\("[^"]+"\));/g
  const found = [...code.matchAll(imports)]
  const rest = code.replaceAll(imports, '')
  const names = found.map(([, name]) => name)
  const uses = rest.replaceAll(/\bimport_\w+\b/g, (word) =>
    names.includes(word) ? `(${word}())` : word,
  )
  const loads = found.map(
    ([, name, load]) => `var ${name}_loaded;function ${name}(){return ${name}_loaded??=${load}}`,
  )
  return uses + loads.join('')
}

async function modulesOfCommand() {
  const { metafile } = await build({
    ...common,
    entryPoints: [`src/${command}.ts`],
    bundle: true,
    packages: 'external',
    metafile: true,
  })
  const files = Object.keys(metafile.inputs).filter(
    (file) => !drawing.includes(nameOf(join(root, file))),
  )
  const { outputFiles } = await build({ ...common, entryPoints: files, outbase: 'src' })
  const modules = outputFiles.map(({ path, text }) => ({
    name: relative(outdir, path).replace(/\.js$/, ''),
    ...splitHelpers(text),
  }))
  const helpers = new Set(modules.flatMap(({ helpers }) => helpers))
  return {
    shared: [...helpers].join(''),
    entries: modules.map(({ name, code }) =>
      entry(name, loadOnUse(resolveImports(code, dirname(name)))),
    ),
  }
}

/** esbuild puts its helpers into each module that has exports; the script needs them once. */
function splitHelpers(text) {
  const [all, helpers, code] = /^"use strict";(.*?)(var \w+_exports=\{\};.*)$/s.exec(text) ?? []
  if (all === undefined) return { helpers: [], code: text }
  return { helpers: helpers.split(/(?=var __\w+=)/), code: `"use strict";${code}` }
}

async function bundleOf(contents, metafiles) {
  const { metafile, outputFiles } = await build({
    ...common,
    stdin: { contents, resolveDir: root, loader: 'ts' },
    bundle: true,
    metafile: true,
  })
  metafiles.push(metafile)
  return outputFiles[0].text
}

/** Writes the script of a program, and the file that starts it. */
function write(program, entries, shared = '') {
  const script = `(()=>{${shared}return {\n${entries.join(',\n')}}})()\n`
  if (Buffer.byteLength(script) !== script.length) throw new Error(`${program} is not ASCII`)
  // V8 takes a code cache for every script of the same length, so each content has its own name.
  const hash = createHash('sha256').update(script).digest('hex').slice(0, 12)
  const pack = `${program.replaceAll('/', '-')}-${hash}.js`
  writeFileSync(join(outdir, pack), script)
  const start = join(outdir, `${program}.js`)
  mkdirSync(dirname(start), { recursive: true })
  writeFileSync(
    start,
    `#!/usr/bin/env node\n'use strict'\nconst { Pack } = require('../loader.js')\n` +
      `new Pack(require('node:path').join(__dirname, '..'), '${pack}').load('${program}')\n`,
  )
  return pack
}

/** The licences of the packages that are in a bundle. */
function licencesOf(metafiles) {
  const folders = metafiles.flatMap(({ inputs }) =>
    Object.keys(inputs).flatMap(
      (input) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1] ?? [],
    ),
  )
  const texts = [...new Set(folders)].sort().map((folder) => {
    const { name, version } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'))
    const file = readdirSync(join(root, folder)).find((name) => /^licen[cs]e/i.test(name))
    if (file === undefined) throw new Error(`${folder} has no file with its licence`)
    return `${name} ${version}\n\n${readFileSync(join(root, folder, file), 'utf8').trim()}\n`
  })
  return texts.join(`\n${'-'.repeat(72)}\n\n`)
}

const made = []
const metafiles = []
const { entries, shared } = await modulesOfCommand()
for (const name of packages) {
  entries.push(entry(name, await bundleOf(`module.exports = require('${name}')`, metafiles)))
}
mkdirSync(outdir, { recursive: true })
made.push(write(command, entries, shared))
for (const worker of workers) {
  const code = await bundleOf(`import './src/${worker}.js'`, metafiles)
  made.push(write(worker, [entry(worker, resolveImports(code, dirname(worker)))]))
}
await build({
  ...common,
  entryPoints: ['src/bundle-loader.ts'],
  bundle: true,
  outdir: undefined,
  outfile: join(outdir, 'loader.js'),
  write: true,
})
writeFileSync(join(outdir, 'package.json'), '{ "type": "commonjs" }\n')
writeFileSync(join(outdir, 'LICENSES.txt'), licencesOf(metafiles))

// Remove the scripts and caches of an earlier build. A process has read its script at its start.
rmSync(join(outdir, 'code-cache'), { recursive: true, force: true })
for (const name of readdirSync(outdir)) {
  if (/-[0-9a-f]{12}\.js$/.test(name) && !made.includes(name)) rmSync(join(outdir, name))
}
