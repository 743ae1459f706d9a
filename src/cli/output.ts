/**
 * All output of the commands: nothing else in src/cli writes to stdout or stderr. Write errors are
 * recorded, and {@link Output.finish} turns them into an exit status.
 */
import { fstatSync, writeSync } from 'node:fs'
import { constants } from 'node:os'
import { Writable } from 'node:stream'
import { isatty } from 'node:tty'
import { printableJson, printableMessage, printableText } from '../printable.js'

/** Moves to the start of a terminal's line, and clears it. */
const CLEAR_LINE = '\r\x1b[K'

/** Writes whole chunks to a file or device; Node's own stream may write only a part. */
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

/** One of the two streams, with its first error. */
export class OutputStream {
  readonly stream: Writable
  readonly isTerminal: boolean
  #failure: NodeJS.ErrnoException | undefined

  constructor(stream: Writable, isTerminal: boolean) {
    this.stream = stream
    this.isTerminal = isTerminal
    this.stream.on('error', (error) => this.#fail(error))
  }

  /** A standard stream of this process. */
  static of(fd: 1 | 2, standard: NodeJS.WriteStream): OutputStream {
    const isTerminal = isatty(fd)
    return new OutputStream(isFile(fd) && !isTerminal ? new FileStream(fd) : standard, isTerminal)
  }

  /** The error of the first failed write. */
  get failure(): NodeJS.ErrnoException | undefined {
    return this.#failure
  }

  /** Does nothing after a failure. */
  write(text: string): void {
    if (this.#failure === undefined) this.stream.write(text)
  }

  /** Resolves when the kernel has taken all output, or after a write has failed. */
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
  #stdout = OutputStream.of(1, process.stdout)
  #stderr = OutputStream.of(2, process.stderr)
  #hasLine = false

  get stdout(): OutputStream {
    return this.#stdout
  }

  /**
   * Writes to these streams instead of those of the process.
   *
   * @returns a function that ends this
   */
  redirect(stdout: Writable, stderr: Writable): () => void {
    const standard = [this.#stdout, this.#stderr] as const
    this.#stdout = new OutputStream(stdout, false)
    this.#stderr = new OutputStream(stderr, false)
    return () => {
      ;[this.#stdout, this.#stderr] = standard
    }
  }

  /** Whether stderr is a terminal, which can show a changing line. */
  get hasTerminal(): boolean {
    return this.#stderr.isTerminal
  }

  /** Characters in a line of stdout; undefined if it is not a terminal. */
  get columns(): number | undefined {
    return this.stdout.isTerminal ? process.stdout.columns : undefined
  }

  /** Prints lines of a command's result. */
  print(text: string): void {
    this.stdout.write(printableText(text))
  }

  /** Prints a command's result for programs, in one line. */
  json(value: unknown): void {
    this.stdout.write(`${printableJson(value)}\n`)
  }

  /** Prints a message on stderr. */
  note(text: string): void {
    this.say(`postcopy: ${text}`)
  }

  /** Prints a line on stderr without the prefix `postcopy: `. */
  say(text: string): void {
    this.#stderr.write(`${this.#cleared()}${printableMessage(text)}\n`)
  }

  /** Prints on stderr without a newline: a dot for each round. */
  progress(text: string): void {
    this.#stderr.write(printableText(text))
  }

  /** Prints commander's text about a wrong command line, without the prefix `postcopy: `. */
  usage(text: string): void {
    this.#stderr.write(printableText(text))
  }

  /** Shows a line on stderr that the next one replaces; on a terminal only. */
  showLine(text: string): void {
    if (!this.hasTerminal) return
    this.#stderr.write(`${CLEAR_LINE}${printableMessage(text)}`)
    this.#hasLine = true
  }

  /** Clears the changing line. May be called twice. */
  clearLine(): void {
    if (this.#hasLine) this.#stderr.write(CLEAR_LINE)
    this.#hasLine = false
  }

  /**
   * Waits until everything is written.
   *
   * @param status - of the command
   * @returns the exit status: that of the command; or 1 if that is 0 and output was lost. If the
   *   reader of a pipe has closed it, 128 + SIGPIPE, without a message
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
    // Clears the prompt of the monitor, too, if the line has one.
    return this.hasTerminal ? CLEAR_LINE : ''
  }
}

/** Whether it is a regular file, or a device such as /dev/full. */
function isFile(fd: number): boolean {
  try {
    const stat = fstatSync(fd)
    return stat.isFile() || stat.isCharacterDevice()
  } catch {
    return false // closed: the standard stream handles it
  }
}

/** The output of this process. */
export const output = new Output()
