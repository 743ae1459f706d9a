/** Programs with other credentials than ours. */
import { spawn } from 'node:child_process'
import type { CapabilityName } from '../kernel/index.js'

export interface AsUserOptions {
  /** Default 65534, nobody. 0 keeps root, for dropping capabilities only. */
  uid?: number
  /** Capabilities to keep although the user is not root. Default none. */
  keep?: readonly CapabilityName[]
  /** Capabilities to take away although the user is root. Default none. */
  drop?: readonly CapabilityName[]
  /** More environment. */
  env?: Readonly<Record<string, string>>
  /** Killed behind this; default 20 s. */
  timeoutMs?: number
}

export interface ProgramEnd {
  status: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/**
 * Runs a program as an unprivileged user, by setpriv(1); needs root. No error for how it ends: that
 * is the result.
 */
export async function runAsUser(
  command: string,
  args: readonly string[],
  options: AsUserOptions = {},
): Promise<ProgramEnd> {
  const { uid = 65534, keep = [], drop = [], env = {}, timeoutMs = 20_000 } = options
  const child = spawn('setpriv', [...credentialFlags(uid, keep, drop), command, ...args], {
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

function credentialFlags(
  uid: number,
  keep: readonly CapabilityName[],
  drop: readonly CapabilityName[],
): string[] {
  const list = (names: readonly CapabilityName[], sign: '+' | '-') =>
    names.map((name) => `${sign}${name.toLowerCase()}`).join(',')
  return [
    `--reuid=${uid}`,
    ...(uid === 0 ? [] : [`--regid=${uid}`, '--clear-groups']),
    ...(keep.length === 0
      ? []
      : [`--inh-caps=${list(keep, '+')}`, `--ambient-caps=${list(keep, '+')}`]),
    ...(drop.length === 0
      ? []
      : [`--inh-caps=${list(drop, '-')}`, `--bounding-set=${list(drop, '-')}`]),
  ]
}
