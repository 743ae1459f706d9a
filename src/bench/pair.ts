/** Two processes between which a benchmark migrates, round after round. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { PostcopyError } from '../errors.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { Answer, Command, DestinationResult, RoundOptions, SourceResult } from './round.js'

/** The cost of one round at each end. */
export interface Round {
  readonly source: SourceResult
  readonly destination: DestinationResult
}

/** GB of RAM per second, from the connection to the end of the migration. */
export function pushRate({ source }: Round): number {
  return (source.pages * TARGET_PAGE_SIZE) / source.totalMs / 1e6
}

/** Starts a program, perhaps on another host. */
export type Spawn = (
  command: string,
  args: readonly string[],
  options: SpawnOptions,
) => ChildProcess

export class Pair {
  readonly #source: End
  readonly #destination: End

  /** The source's guest is kept between rounds, so that it is filled only once. */
  constructor(source: Spawn = spawn, destination: Spawn = spawn) {
    this.#source = new End(source)
    this.#destination = new End(destination)
  }

  async round(options: RoundOptions): Promise<Round> {
    this.#destination.tell({ type: 'listen', options })
    const { uri } = await this.#destination.answer('listening')
    this.#source.tell({ type: 'migrate', options, uri })
    const [{ result: source }, { result: destination }] = await Promise.all([
      this.#source.answer('migrated'),
      this.#destination.answer('arrived'),
    ])
    return { source, destination }
  }

  async close(): Promise<void> {
    await Promise.all([this.#source.close(), this.#destination.close()])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

class End {
  readonly #process: ChildProcess
  readonly #answers: Answer[] = []
  #wake: (() => void) | undefined

  constructor(start: Spawn) {
    const file = fileURLToPath(new URL('./end.js', import.meta.url))
    this.#process = start(process.execPath, [file], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    this.#process.on('message', (message: Answer) => {
      this.#answers.push(message)
      this.#wake?.()
    })
    this.#process.on('exit', () => this.#wake?.())
  }

  tell(command: Command): void {
    this.#process.send(command)
  }

  async answer<T extends Answer['type']>(type: T): Promise<Extract<Answer, { type: T }>> {
    for (;;) {
      const answer = this.#answers.shift()
      if (answer?.type === 'failed') throw new PostcopyError('ERR_BENCH', answer.reason)
      // The process had one command only, so this answers it.
      if (answer !== undefined) return answer as Extract<Answer, { type: T }>
      if (this.#hasEnded) {
        throw new PostcopyError('ERR_BENCH', `a process of the benchmark ended, not ${type}`)
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  get #hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null
  }

  /** Kills the process, whatever its state: after a failed round it may wait for ever. */
  async close(): Promise<void> {
    if (this.#hasEnded) return
    const exit = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await exit
  }
}
