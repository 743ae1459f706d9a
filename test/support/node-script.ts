/** Runs a script in a Node process of its own, where a crash or a hang is a result. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface ScriptResult {
  stdout: string
  stderr: string
}

/** Runs ES module source. Throws with the output unless the exit status is 0 within 50 s. */
export function runNode(
  source: string,
  flags: readonly string[] = [],
  options: { prefix?: readonly string[]; env?: Record<string, string> } = {},
): ScriptResult {
  const folder = mkdtempSync(join(tmpdir(), 'postcopy-test-'))
  const script = join(folder, 'script.mjs')
  writeFileSync(script, source)
  const argv = [...(options.prefix ?? []), process.execPath, ...flags, script]
  const [command = process.execPath, ...args] = argv
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    timeout: 50_000,
    killSignal: 'SIGKILL',
    env: { ...process.env, ...options.env },
  })
  rmSync(folder, { recursive: true })
  const { status, signal, stdout, stderr } = result
  if (status !== 0) {
    throw new Error(`script ended with ${String(status ?? signal)}\n${stdout}\n${stderr}`)
  }
  return { stdout, stderr }
}
