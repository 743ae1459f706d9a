/** The command line in processes of its own, as a user runs it; no test leaves one running. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cleanups } from '../support/cleanup.js'

export const MAIN = fileURLToPath(new URL('../../bundle/cli/main.js', import.meta.url))
/** The same command from the modules that a test can import. */
export const UNBUNDLED_MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))

export interface CliResult {
  status: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** A running command, its output so far, and its exit. */
export class Cli {
  readonly child: ChildProcess
  readonly ended: Promise<CliResult>
  stdout = ''
  stderr = ''
  #changed: (() => void)[] = []
  #hasEnded = false

  /** @param main - the command; {@link UNBUNDLED_MAIN} if a test changes its classes */
  constructor(args: readonly string[], env: NodeJS.ProcessEnv = {}, main = MAIN) {
    const child = spawn(process.execPath, [main, ...args], { env: { ...process.env, ...env } })
    this.child = child
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
      this.#wake()
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
      this.#wake()
    })
    this.ended = once(child, 'close').then((args: unknown[]) => {
      const [status, signal] = args as [number | null, NodeJS.Signals | null]
      this.#hasEnded = true
      this.#wake()
      return { status, signal, stdout: this.stdout, stderr: this.stderr }
    })
    cleanups.add(async () => {
      child.kill('SIGKILL')
      await this.ended
    })
  }

  type(...lines: readonly string[]): void {
    for (const line of lines) this.child.stdin?.write(`${line}\n`)
  }

  /** Waits until stdout and stderr together match; fails if the command ends before. */
  async seen(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.stdout + this.stderr)
      if (match !== null) return match
      if (this.#hasEnded) {
        throw new Error(`ended without ${String(pattern)}:\n${this.stdout}${this.stderr}`)
      }
      await new Promise<void>((resolve) => this.#changed.push(resolve))
    }
  }

  #wake(): void {
    for (const resolve of this.#changed.splice(0)) resolve()
  }
}

/** Runs a command to its end. */
export function runCli(args: readonly string[], input = ''): Promise<CliResult> {
  const cli = new Cli(args)
  cli.child.stdin?.end(input)
  return cli.ended
}

export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'postcopy-test-'))
  cleanups.add(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Sends lines to a monitor's unix socket and returns its answers, without the prompts. */
export async function ask(path: string, ...lines: readonly string[]): Promise<string> {
  const socket = net.connect(path)
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  socket.end(lines.map((line) => `${line}\n`).join(''))
  await once(socket, 'close')
  return text.replaceAll('(postcopy) ', '')
}

/** Whether a process exists; a zombie counts as ended. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
