/** The addon's loops under libFuzzer: programs that CMake builds if there is a clang. */
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Outcome } from './campaign.js'
import { readCorpus, writeCorpus } from './corpus.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const BUILD = 'build-cmake-fuzz'
const MAX_BYTES = 512
const COMPILERS = ['clang++', 'clang++-14']

/** Each is `native/fuzz/NAME.cc`, called `native-NAME`. */
export const nativeTargets: readonly string[] = ['native-bitmap', 'native-pack', 'native-receive']

/** @returns why the programs cannot be built here; undefined if they are built */
export function buildNative(): string | undefined {
  const compiler = COMPILERS.find((name) => spawnSync(name, ['--version']).status === 0)
  if (compiler === undefined) return 'no clang++ (Debian packages clang and libclang-rt-14-dev)'
  // The environment only matters for a new build directory; an existing one keeps its compiler.
  const env = { ...process.env, CXX: compiler }
  const configure = ['-S', '.', '-B', BUILD, '-DPOSTCOPY_FUZZ=ON']
  for (const args of [configure, ['--build', BUILD]]) {
    const { status, error, stdout, stderr } = spawnSync('cmake', args, { cwd: root, env })
    if (error !== undefined) return 'no cmake (Debian package cmake)'
    if (status === 0) continue
    const said = `${stdout.toString()}${stderr.toString()}`
    if (!said.includes('libclang_rt')) throw new Error(said)
    return 'no libFuzzer (Debian package libclang-rt-14-dev)'
  }
  return undefined
}

/** Runs one of the programs for a given time. */
export async function fuzzNative(
  target: string,
  seconds: number,
  seed: number,
  isKept: boolean,
): Promise<Outcome> {
  const directory = mkdtempSync(join(tmpdir(), 'postcopy-fuzz-'))
  const [corpus = '', crashes = '', merged = ''] = ['corpus', 'crashes', 'merged'].map((name) => {
    mkdirSync(join(directory, name))
    return join(directory, name, '/')
  })
  for (const [index, input] of readCorpus(target).entries()) {
    writeFileSync(join(corpus, String(index)), input)
  }
  const program = join(root, BUILD, target.replace('native-', 'fuzz_'))
  const options = [`-max_len=${MAX_BYTES}`, `-artifact_prefix=${crashes}`]
  const whole = Math.max(1, Math.round(seconds))
  const run = await say(program, [...options, `-max_total_time=${whole}`, `-seed=${seed}`, corpus])
  if (isKept) {
    await say(program, ['-merge=1', ...options, merged, corpus])
    writeCorpus(target, readAll(merged))
  }
  const inputs = readAll(crashes)
  rmSync(directory, { recursive: true })
  const failed = run.status !== 0
  return {
    ...lastNumbers(run.text),
    findings: failed ? [{ inputs, text: run.text.split('\n').slice(-40).join('\n') }] : [],
  }
}

function readAll(directory: string): Uint8Array[] {
  return readdirSync(directory).map((name) => readFileSync(join(directory, name)))
}

/** `#100 DONE cov: 20 ft: 30 corp: 4/5b …`, and others of the kind. */
function lastNumbers(text: string): { executions: number; blocks: number; corpus: number } {
  const lines = [...text.matchAll(/^#(\d+)\s+\w+\s+cov: (\d+) .*corp: (\d+)/gm)]
  const [, executions, blocks, corpus] = lines.at(-1) ?? []
  return {
    executions: Number(executions ?? 0),
    blocks: Number(blocks ?? 0),
    corpus: Number(corpus ?? 0),
  }
}

function say(
  program: string,
  args: readonly string[],
): Promise<{ status: number | null; text: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    let text = ''
    child.stderr.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
    })
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, text }))
  })
}
