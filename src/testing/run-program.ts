/** Runs a program to its end. */
import { spawn } from 'node:child_process'

export interface ProgramOptions {
  /** Environment variables to add. */
  env?: Readonly<Record<string, string>>
  /** The program is killed after this time; default 20 s. */
  timeoutMs?: number
}

export interface ProgramEnd {
  status: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Does not throw if the program fails: its end is the result. */
export async function runProgram(
  [command = '', ...args]: readonly string[],
  options: ProgramOptions = {},
): Promise<ProgramEnd> {
  const { env = {}, timeoutMs = 20_000 } = options
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  })
  const said = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (status, signal) => resolve({ status, signal, ...said }))
  })
}
