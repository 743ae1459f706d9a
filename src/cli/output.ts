/**
 * What commands print: nothing else in src/cli writes to stdout or stderr. What could not be written
 * is remembered, and {@link Output.finish} makes an exit status of it.
 */
import { fstatSync, writeSync } from 'node:fs'
import { constants } from 'node:os'
import { Writable } from 'node:stream'
import { isatty } from 'node:tty'
import { printableJson, printableMessage, printableText } from '../printable.js'

/** The start of a terminal's line, emptied. */
const CLEAR_LINE = '\r\x1b[K'

/** Writes all of a chunk to a file or device; Node's own stream may write a part of it. */
class FileStream extends Writable {
  readonly #fd: number

  constructor(fd: number) {
    super()
    this.#fd = fd
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    try {
      for (let at = 0; at < chunk.length;) at += writeSync(this.#fd, chunk, at)
      done()
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)))
    }
  }
}

/** One of the two streams, and the first error that it had. */
export class OutputStream {
  readonly stream: Writable
  readonly isTerminal: boolean
  #failure: NodeJS.ErrnoException | undefined

  constructor(fd: 1 | 2, standard: NodeJS.WriteStream) {
    this.isTerminal = isatty(fd)
    this.stream = isFile(fd) && !this.isTerminal ? new FileStream(fd) : standard
    this.stream.on('error', (error) => this.#fail(error))
  }

  /** Why something could not be written. */
  get failure(): NodeJS.ErrnoException | undefined {
    return this.#failure
  }

  /** Does nothing after a failure. */
  write(text: string): void {
    if (this.#failure === undefined) this.stream.write(text)
  }

  /** Resolves when all that was written is with the kernel, or cannot go there. */
  async flush(): Promise<void> {
    if (this.#failure !== undefined) return
    await new Promise<void>((resolve) => {
      this.stream.write('', (error) => {
        if (error) this.#fail(error)
        resolve()
      })
    })
  }

  #fail(error: NodeJS.ErrnoException): void {
    this.#failure ??= error
  }
}

export class Output {
  readonly stdout: OutputStream
  readonly #stderr: OutputStream
  #hasLine = false

  constructor() {
    this.stdout = new OutputStream(1, process.stdout)
    this.#stderr = new OutputStream(2, process.stderr)
  }

  /** Whether a line that changes would be seen as one. */
  get hasTerminal(): boolean {
    return this.#stderr.isTerminal
  }

  /** Characters in a line of stdout; undefined where it is no terminal. */
  get columns(): number | undefined {
    return this.stdout.isTerminal ? process.stdout.columns : undefined
  }

  /** The result of a command, in lines. */
  print(text: string): void {
    this.stdout.write(printableText(text))
  }

  /** The result of a command for programs, in one line. */
  json(value: unknown): void {
    this.stdout.write(`${printableJson(value)}\n`)
  }

  /** One line on stderr: what happened. */
  note(text: string): void {
    this.say(`postcopy: ${text}`)
  }

  /** A line on stderr without our name. */
  say(text: string): void {
    this.#stderr.write(`${this.#cleared()}${printableMessage(text)}\n`)
  }

  /** A part of a line on stderr: a dot for each round. */
  progress(text: string): void {
    this.#stderr.write(printableText(text))
  }

  /** What commander says of a wrong command line; it has laid it out. */
  usage(text: string): void {
    this.#stderr.write(printableText(text))
  }

  /** A line of stderr that the next one replaces; on a terminal only. */
  showLine(text: string): void {
    if (!this.hasTerminal) return
    this.#stderr.write(`${CLEAR_LINE}${printableMessage(text)}`)
    this.#hasLine = true
  }

  /** Leaves no line that is half over. May be called twice. */
  clearLine(): void {
    if (this.#hasLine) this.#stderr.write(CLEAR_LINE)
    this.#hasLine = false
  }

  /**
   * Waits until all is written.
   *
   * @param status - of the command
   * @returns the exit status: that of the command, or where that is 0 and something was lost, 1; a
   *   reader that has closed its end of a pipe gives 128 + SIGPIPE, without a word
   */
  async finish(status: number): Promise<number> {
    this.clearLine()
    await this.stdout.flush()
    const { failure } = this.stdout
    if (failure !== undefined && failure.code !== 'EPIPE') {
      this.note(`cannot write to standard output: ${failure.message} [${failure.code ?? ''}]`)
    }
    await this.#stderr.flush()
    const lost = failure ?? this.#stderr.failure
    if (status !== 0 || lost === undefined) return status
    return lost.code === 'EPIPE' ? 128 + constants.signals.SIGPIPE : 1
  }

  #cleared(): string {
    this.#hasLine = false
    // A prompt may stand there, too.
    return this.hasTerminal ? CLEAR_LINE : ''
  }
}

/** Regular files and devices such as /dev/full. */
function isFile(fd: number): boolean {
  try {
    const stat = fstatSync(fd)
    return stat.isFile() || stat.isCharacterDevice()
  } catch {
    return false // closed: the standard stream knows what to do
  }
}

/** Of this process. */
export const output = new Output()
