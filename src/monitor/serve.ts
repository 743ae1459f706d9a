/** Serves the monitor on the terminal, a pipe, or a unix socket. */
import type net from 'node:net'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { PostcopyError, errorToRecord } from '../errors.js'
import { unixUri } from '../net/index.js'
import { printableJson, printableMessage, printableText } from '../printable.js'
import { commandNames, commands } from './commands.js'
import { type Reply, begin } from './hmp.js'
import { BoundServer } from './bound-server.js'
import { MAX_REQUEST_BYTES, drained } from './limits.js'
import { type Line, readLines } from './line-reader.js'
import type { Monitor } from './monitor.js'
import { timestamp } from './timestamp.js'

export const PROMPT = '(postcopy) '

/** Text for people, with a prompt; or one JSON object per line: `{"return"}` or `{"error"}`. */
export type MonitorFormat = 'text' | 'json'

export interface MonitorServer {
  /** Takes no more lines; answers already given are still sent. */
  close(): void
}

/**
 * Runs the commands of all clients one after another. A command that waits for a migration delays
 * only its own client.
 */
export class MonitorSession {
  readonly format: MonitorFormat
  readonly #monitor: Monitor
  #last: Promise<unknown> = Promise.resolve()

  constructor(monitor: Monitor, format: MonitorFormat) {
    this.#monitor = monitor
    this.format = format
  }

  /** Names to complete at a prompt. */
  get commandNames(): readonly string[] {
    return commandNames(this.#monitor)
  }

  /** Never rejects. @returns what to print, with its line end; '' for nothing */
  answer(line: string): Promise<string> {
    const begun = this.#last.then(() => this.#begin(line))
    this.#last = begun
    return begun.then((answer) => answer())
  }

  /** @returns a function for the answer, which may take longer than the turn of the command */
  async #begin(line: string): Promise<() => Promise<string>> {
    try {
      const reply = await begin(this.#monitor, commands, line)
      return () => this.#answer(reply.later ?? reply)
    } catch (error) {
      return () => Promise.resolve(this.describe(error))
    }
  }

  async #answer(reply: Reply | Promise<Reply>): Promise<string> {
    try {
      const { data, text } = await reply
      if (this.format === 'json') return jsonLine({ return: data })
      return text === '' ? '' : `${printableText(text)}\n`
    } catch (error) {
      return this.describe(error)
    }
  }

  /** The text of an error, with its line end. */
  describe(error: unknown): string {
    const { code, message } = errorToRecord(error)
    return this.format === 'json'
      ? jsonLine({ error: { class: 'GenericError', code, desc: message } })
      : `Error: ${printableMessage(message)}\n`
  }
}

/** One object per line, with a timestamp as in QMP's events. */
export function jsonLine(fields: Readonly<Record<string, unknown>>): string {
  return `${printableJson({ ...fields, timestamp: timestamp() })}\n`
}

/**
 * Serves one client on a pair of streams. On a terminal it offers completion and history. Otherwise
 * it reads line by line, within the limits of {@link MAX_REQUEST_BYTES} and {@link drained}.
 *
 * @param onEnd - called when the input has ended and every line was answered
 */
export function serveStreams(
  session: MonitorSession,
  input: Readable,
  output: Writable,
  onEnd: () => void,
): MonitorServer & { refresh(): void } {
  const isTerminal = 'isTTY' in output && output.isTTY === true
  if (isTerminal) return serveTerminal(session, input, output, onEnd)
  const prompt = (): void => {
    if (session.format !== 'json' && output.writable) output.write(PROMPT)
  }
  const take = async (line: Line): Promise<void> => {
    const text = line === undefined ? session.describe(tooLong()) : await session.answer(line)
    if (!output.writable) return
    output.write(text)
    prompt()
    await drained(output)
  }
  const close = readLines(input, take, onEnd)
  // Errors of the input are handled by its owner.
  input.on('error', () => undefined)
  prompt()
  return { refresh: prompt, close }
}

function serveTerminal(
  session: MonitorSession,
  input: Readable,
  output: Writable,
  onEnd: () => void,
): MonitorServer & { refresh(): void } {
  const lines = createInterface({
    input,
    output,
    terminal: true,
    completer: (typed: string) => [
      session.commandNames.filter((name) => name.startsWith(typed)),
      typed,
    ],
  })
  const prompt = (): void => {
    if (session.format === 'json') return
    lines.setPrompt(PROMPT)
    lines.prompt(true)
  }
  let last: Promise<void> = Promise.resolve()
  lines.on('line', (line) => {
    last = last.then(async () => {
      const text = await session.answer(line)
      if (!output.writable) return
      output.write(text)
      prompt()
    })
  })
  // Errors of the input are handled by its owner.
  lines.on('error', () => undefined)
  let closing = false
  lines.on('close', () => {
    if (!closing) void last.then(onEnd)
  })
  lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'))
  prompt()
  return {
    refresh: prompt,
    close: () => {
      closing = true
      lines.close()
    },
  }
}

function tooLong(): PostcopyError {
  return new PostcopyError(
    'ERR_MONITOR_COMMAND',
    `a line of more than ${MAX_REQUEST_BYTES} bytes was dropped`,
  )
}

/**
 * Serves a limited number of clients on a unix socket that only the owner can access.
 *
 * @throws ConnectionError if it cannot listen; PostcopyError `ERR_INVALID_URI`
 */
export async function serveUnix(session: MonitorSession, path: string): Promise<MonitorServer> {
  return serveBound(session, await bindUnix(path))
}

/** Listens for a session that is created later. @throws as {@link serveUnix} */
export function bindUnix(path: string): Promise<BoundServer> {
  return BoundServer.listen(unixUri(path, 'monitor address'))
}

/** @param bound - from {@link bindUnix}; is closed with the server */
export function serveBound(session: MonitorSession, bound: BoundServer): MonitorServer {
  const clients = new Set<net.Socket>()
  bound.serve((socket) => {
    clients.add(socket)
    // Errors of a disconnected client do not matter.
    socket.on('error', () => socket.destroy())
    socket.on('close', () => clients.delete(socket))
    serveStreams(session, socket, socket, () => socket.end())
  })
  return {
    close: () => {
      bound.close()
      for (const socket of clients) socket.end()
    },
  }
}
