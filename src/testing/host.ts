/** One of {@link TwoHosts}: a network namespace to run programs in. */
import {
  type ChildProcess,
  type ChildProcessWithoutNullStreams,
  type SpawnOptions,
  type SpawnOptionsWithoutStdio,
  execFileSync,
  spawn,
} from 'node:child_process'
import { PostcopyError } from '../errors.js'

/** Size of the token bucket: what passes in this time, but at least a few packets. */
const BURST_SECONDS = 0.01
const LEAST_BURST_BYTES = 64 * 1024
/** How long a packet may wait for a token before it is dropped. */
const QUEUE_MS = 50

export class Host {
  /** Name of the network namespace, as in ip(8). */
  readonly name: string
  /** The address at which the other host reaches this one. */
  readonly address: string
  readonly #device: string

  /** See {@link TwoHosts.create}. */
  constructor(name: string, address: string, device: string) {
    this.name = name
    this.address = address
    this.#device = device
  }

  /** Like `spawn` of `node:child_process`. The child's pid is that of the command itself. */
  spawn(
    command: string,
    args: readonly string[],
    options?: SpawnOptionsWithoutStdio,
  ): ChildProcessWithoutNullStreams
  spawn(command: string, args: readonly string[], options: SpawnOptions): ChildProcess
  spawn(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn('ip', ['netns', 'exec', this.name, command, ...args], options)
  }

  /** Runs a short command to its end. @returns its output. @throws if its status is not 0 */
  run(command: string, ...args: readonly string[]): string {
    return ip('netns', 'exec', this.name, command, ...args)
  }

  /** Ids of all processes that run here. */
  pids(): number[] {
    return ip('netns', 'pids', this.name)
      .split('\n')
      .filter((line) => line !== '')
      .map(Number)
  }

  /** Sends a signal to all processes here: SIGKILL is a power failure, SIGSTOP a hang. */
  signal(signal: NodeJS.Signals): void {
    for (const pid of this.pids()) {
      try {
        process.kill(pid, signal)
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
      }
    }
  }

  /**
   * Limits the outgoing bandwidth of this host (tc-tbf(8)), at once and
   * for existing connections too.
   *
   * @param bitsPerSecond - `Infinity` removes the limit
   */
  limitBandwidth(bitsPerSecond: number): void {
    if (!(bitsPerSecond > 0)) {
      throw new PostcopyError('ERR_TWO_HOSTS', `${bitsPerSecond} bits per second: give more than 0`)
    }
    const qdisc = (verb: string, ...rest: readonly string[]): void =>
      void run('tc', ['-n', this.name, 'qdisc', verb, 'dev', this.#device, 'root', ...rest])
    // Deleting a missing qdisc fails, so first make sure that there is one.
    if (bitsPerSecond === Infinity) {
      qdisc('replace', 'pfifo')
      qdisc('delete')
      return
    }
    const burst = Math.max(LEAST_BURST_BYTES, Math.round((bitsPerSecond / 8) * BURST_SECONDS))
    qdisc(
      ...(['replace', 'tbf', 'rate', `${Math.round(bitsPerSecond)}bit`] as const),
      ...['burst', `${burst}b`, 'latency', `${QUEUE_MS}ms`],
    )
  }

  /** Takes only this end of the cable up or down, see {@link TwoHosts.cutLink}. */
  setLink(state: 'up' | 'down'): void {
    ip('-n', this.name, 'link', 'set', this.#device, state)
  }
}

/** @returns its output. @throws PostcopyError `ERR_TWO_HOSTS` with the message of ip(8) */
export function ip(...args: readonly string[]): string {
  return run('ip', args)
}

function run(command: string, args: readonly string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    const { stderr } = error as { stderr?: string | null }
    const why = stderr?.trim() || (error instanceof Error ? error.message : String(error))
    throw new PostcopyError('ERR_TWO_HOSTS', `${command} ${args.join(' ')}: ${why}`, {
      cause: error,
    })
  }
}
