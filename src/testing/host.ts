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

/** What a token bucket holds: as much as passes in this time, and never less than some packets. */
const BURST_SECONDS = 0.01
const LEAST_BURST_BYTES = 64 * 1024
/** How long a packet may wait for a token before it is dropped. */
const QUEUE_MS = 50

export class Host {
  /** Of the network namespace, as ip(8) knows it. */
  readonly name: string
  /** Where the other host reaches this one. */
  readonly address: string
  readonly #device: string

  /** See {@link TwoHosts.create}. */
  constructor(name: string, address: string, device: string) {
    this.name = name
    this.address = address
    this.#device = device
  }

  /** As `spawn` of `node:child_process`. The child's id is that of the command itself. */
  spawn(
    command: string,
    args: readonly string[],
    options?: SpawnOptionsWithoutStdio,
  ): ChildProcessWithoutNullStreams
  spawn(command: string, args: readonly string[], options: SpawnOptions): ChildProcess
  spawn(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn('ip', ['netns', 'exec', this.name, command, ...args], options)
  }

  /** Runs a short command to its end. @returns its output. @throws where its status is not 0 */
  run(command: string, ...args: readonly string[]): string {
    return ip('netns', 'exec', this.name, command, ...args)
  }

  /** What runs here, all of it. */
  pids(): number[] {
    return ip('netns', 'pids', this.name)
      .split('\n')
      .filter((line) => line !== '')
      .map(Number)
  }

  /** Sends a signal to everything that runs here: SIGKILL is a power failure, SIGSTOP a hang. */
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
   * Limits what leaves this host (tc-tbf(8)), at once and also for connections that are there.
   *
   * @param bitsPerSecond - `Infinity` takes the limit away
   */
  limitBandwidth(bitsPerSecond: number): void {
    if (!(bitsPerSecond > 0)) {
      throw new PostcopyError('ERR_TWO_HOSTS', `${bitsPerSecond} bits per second: give more than 0`)
    }
    const qdisc = (verb: string, ...rest: readonly string[]): void =>
      void run('tc', ['-n', this.name, 'qdisc', verb, 'dev', this.#device, 'root', ...rest])
    // One that is not there cannot be deleted, but one that is there can be replaced.
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

  /** See {@link TwoHosts.cutLink}: this end of the cable alone. */
  setLink(state: 'up' | 'down'): void {
    ip('-n', this.name, 'link', 'set', this.#device, state)
  }
}

/** @returns what it prints. @throws PostcopyError `ERR_TWO_HOSTS` with what ip(8) has said */
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
