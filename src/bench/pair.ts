/** Two processes between which a benchmark migrates, round after round. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { PostcopyError } from '../errors.js'
import type { Answer, Command, RoundOptions, RoundResult } from './end.js'

/** What one round cost at each end. */
export interface Round {
  readonly source: RoundResult
  readonly destination: RoundResult
  /** What the collectors of all threads at both ends freed, in bytes. */
  readonly garbageBytes: number
}

export class Pair {
  readonly #source = new End()
  readonly #destination = new End()

  async round(options: RoundOptions): Promise<Round> {
    const before = this.#source.garbageBytes + this.#destination.garbageBytes
    this.#destination.tell({ type: 'listen', options })
    const listening = await this.#destination.answer()
    if (listening.type !== 'listening') throw unexpected(listening)
    this.#source.tell({ type: 'migrate', options, uri: listening.uri })
    const [source, destination] = await Promise.all([
      this.#source.answer(),
      this.#destination.answer(),
    ])
    if (source.type !== 'done' || destination.type !== 'done') throw unexpected(source)
    const garbageBytes = this.#source.garbageBytes + this.#destination.garbageBytes - before
    return { source: source.result, destination: destination.result, garbageBytes }
  }

  async close(): Promise<void> {
    await Promise.all([this.#source.close(), this.#destination.close()])
  }
}

/** As --trace-gc prints it: `Scavenge 5.2 (6.1) -> 4.3 (7.1) MB`. */
const COLLECTION = /([\d.]+) \([\d.]+\) -> ([\d.]+) \([\d.]+\) MB/

class End {
  garbageBytes = 0
  readonly #process: ChildProcess
  readonly #answers: Answer[] = []
  #wake: (() => void) | undefined
  #ended = false

  constructor() {
    this.#process = fork(new URL('./end.js', import.meta.url), {
      execArgv: ['--trace-gc'],
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    })
    if (this.#process.stdout !== null) {
      createInterface(this.#process.stdout).on('line', (line) => {
        const [, before, after] = COLLECTION.exec(line) ?? []
        this.garbageBytes += (Number(before ?? 0) - Number(after ?? 0)) * 2 ** 20
      })
    }
    this.#process.on('message', (message: Answer) => {
      this.#answers.push(message)
      this.#wake?.()
    })
    this.#process.on('exit', () => {
      this.#ended = true
      this.#wake?.()
    })
  }

  tell(command: Command): void {
    this.#process.send(command)
  }

  async answer(): Promise<Answer> {
    for (;;) {
      const answer = this.#answers.shift()
      if (answer !== undefined) return answer
      if (this.#ended) throw new PostcopyError('ERR_BENCH', 'a process of the benchmark ended')
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  async close(): Promise<void> {
    if (this.#ended) return
    const exit = once(this.#process, 'exit')
    this.tell({ type: 'exit' })
    await exit
  }
}

function unexpected(answer: Answer): PostcopyError {
  return new PostcopyError('ERR_BENCH', `unexpected answer ${answer.type}`)
}
