/**
 * The human monitor protocol: one line is one command. Commands are a table. This module finds the
 * row, checks the arguments against it, and reports errors.
 */
import { PostcopyError } from '../errors.js'
import { printable } from '../printable.js'
import type { Monitor } from './monitor.js'
import { closestWord } from '../closest-word.js'

/** The result of a command: `data` for programs, `text` for people (may be empty). */
export interface Reply {
  readonly data: unknown
  readonly text: string
  /** Replaces this reply when it resolves; commands of other clients continue meanwhile. */
  readonly later?: Promise<Reply>
}

export interface Argument {
  readonly name: string
  readonly optional?: boolean
}

/** Arguments and flags that were checked against the table. */
export interface Invocation {
  /** In the order of the table; '' for an optional one that is absent. */
  readonly args: readonly string[]
  readonly flags: ReadonlySet<string>
}

export interface Command {
  /** One word, or `info` and a second word. */
  readonly name: string
  readonly aliases?: readonly string[]
  /** Letters that are allowed after a dash. */
  readonly flags?: string
  readonly args?: readonly Argument[]
  /** Its first line is a summary. */
  readonly help: string
  /** Whether the machine can do it. Default: every machine can. */
  isAvailable?(monitor: Monitor): boolean
  run(monitor: Monitor, invocation: Invocation): Reply | Promise<Reply>
}

/** `migrate [-d] URI`. */
export function usage({ name, flags = '', args = [] }: Command): string {
  const parts = [
    ...Array.from(flags, (flag) => `[-${flag}]`),
    ...args.map((argument) => (argument.optional === true ? `[${argument.name}]` : argument.name)),
  ]
  return [name, ...parts].join(' ')
}

/**
 * Runs one line. An empty line does nothing.
 *
 * @throws PostcopyError `ERR_MONITOR_COMMAND`, `ERR_MONITOR_ARGUMENT`, or the command's own
 */
export async function begin(
  monitor: Monitor,
  commands: readonly Command[],
  line: string,
): Promise<Reply> {
  const words = splitLine(line)
  if (words.length === 0) return { data: {}, text: '' }
  const { command, rest } = findCommand(availableCommands(monitor, commands), words)
  return command.run(monitor, checkArguments(command, rest))
}

/** The commands that the monitor's machine can do. */
export function availableCommands(monitor: Monitor, commands: readonly Command[]): Command[] {
  return commands.filter((command) => command.isAvailable?.(monitor) !== false)
}

/** As {@link begin}, but waits for a later reply. */
export async function execute(
  monitor: Monitor,
  commands: readonly Command[],
  line: string,
): Promise<Reply> {
  const reply = await begin(monitor, commands, line)
  return reply.later ?? reply
}

/** Splits a line at blanks; double quotes keep blanks inside a word. */
export function splitLine(line: string): string[] {
  const words: string[] = []
  for (const match of line.matchAll(/"((?:[^"\\]|\\.)*)"|[^\s"]+|"/g)) {
    const [whole, quoted] = match
    if (whole === '"') {
      throw new PostcopyError('ERR_MONITOR_ARGUMENT', 'a quotation mark is not closed')
    }
    words.push(quoted === undefined ? whole : quoted.replaceAll(/\\(.)/g, '$1'))
  }
  return words
}

export function findCommand(
  commands: readonly Command[],
  words: readonly string[],
): { command: Command; rest: readonly string[] } {
  const isInfo = words[0] === 'info' && words.length > 1
  for (const length of isInfo ? [2] : [2, 1]) {
    const name = words.slice(0, length).join(' ')
    const command = commands.find((row) => row.name === name || row.aliases?.includes(name))
    if (command !== undefined) return { command, rest: words.slice(length) }
  }
  const name = words.slice(0, isInfo ? 2 : 1).join(' ')
  const meant = closestWord(
    name,
    commands.map((row) => row.name),
  )
  throw new PostcopyError(
    'ERR_MONITOR_COMMAND',
    `unknown command "${printable(name)}": ${meant === undefined ? `help${isInfo ? ' info' : ''} lists the commands` : `did you mean ${meant}?`}`,
  )
}

function checkArguments(command: Command, words: readonly string[]): Invocation {
  const { args = [], flags = '' } = command
  const refuse = (why: string): never => {
    throw new PostcopyError('ERR_MONITOR_ARGUMENT', `${why}; usage: ${usage(command)}`)
  }
  const given = new Set<string>()
  let at = 0
  for (; /^-[a-z]$/i.test(words[at] ?? ''); at += 1) {
    const flag = words[at]?.slice(1) ?? ''
    if (!flags.includes(flag)) refuse(`${command.name} has no flag -${flag}`)
    given.add(flag)
  }
  const rest = words.slice(at)
  const missing = args.find((argument, index) => argument.optional !== true && index >= rest.length)
  if (missing !== undefined) refuse(`${command.name} needs ${missing.name}`)
  if (rest.length > args.length)
    refuse(`"${printable(rest[args.length] ?? '')}" is one argument too many`)
  return { args: args.map((_, index) => rest[index] ?? ''), flags: given }
}
