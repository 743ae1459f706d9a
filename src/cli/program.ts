/** The commands and their options, without their implementations. */
import { Command } from 'commander'
import { packageInfo } from '../kernel/internal.js'
import { USAGE_CODE } from './failure.js'
import { output } from './output.js'
import { type RunAction, runCommand } from './run-command.js'

type Define = (run: RunAction) => Command

/**
 * The commands in the order of the help. The module of a command is loaded only if the command line
 * is for it.
 */
const commands: readonly (readonly [name: string, load: () => Promise<Define>])[] = [
  ['demo', async () => (await import('./demo.js')).defineDemo],
  ['guest', async () => (await import('./guest.js')).defineGuest],
  ['park', async () => (await import('./park.js')).definePark],
  ['resume', async () => (await import('./resume.js')).defineResume],
  ['export', async () => (await import('./export.js')).defineExport],
  ['inspect', async () => (await import('./inspect.js')).defineInspect],
  ['doctor', async () => (await import('./doctor.js')).defineDoctor],
  ['lab', async () => (await import('./lab.js')).defineLab],
]

/** Loads the command that a command line names; none for the version, all for help and errors. */
function loadCommands([first]: readonly string[]): Promise<Define[]> {
  if (first === '--version' || first === '-V') return Promise.resolve([])
  const named = commands.filter(([name]) => name === first)
  return Promise.all((named.length > 0 ? named : commands).map(([, load]) => load()))
}

/**
 * @param words - the command line that the program will parse
 * @param setStatus - called with the exit status of the command
 */
export async function createProgram(
  words: readonly string[],
  setStatus: (status: number) => void,
): Promise<Command> {
  const program = new Command('postcopy')
    .description(
      'Moves a running guest from one process or host to another and starts it there before its ' +
        'memory has been received: a touch of a missing page is a real page fault, and the page is ' +
        'fetched while the vCPU waits.',
    )
    .version(packageInfo().version)
    .showHelpAfterError(false)
    .configureOutput({
      writeOut: (text) => output.print(text),
      writeErr: (text) => output.usage(text),
      // commander puts its suggestion on a second line; one line is easier to log.
      outputError: (text, write) => {
        const line = text
          .trim()
          .replace(/^error: /, '')
          .replaceAll(/\s*\n\s*/g, ' ')
        write(`postcopy: ${valueOnce(line)} [${USAGE_CODE}]; see ${commandLine(current)} --help\n`)
      },
    })
    .addHelpText(
      'after',
      `
Begin with:
  postcopy doctor   what this host supports, and how to enable the rest
  postcopy demo     one migration between two processes here, with a check of every page
  postcopy lab      what this kernel does with page faults, found by experiments`,
    )
    .exitOverride()
  let current = program
  const setCurrent = (_parent: Command, command: Command): void => {
    current = command
  }
  for (const define of await loadCommands(words)) {
    const command = define(async (body) => setStatus(await runCommand(body))).copyInheritedSettings(
      program,
    )
    for (const nested of command.commands) nested.copyInheritedSettings(program)
    command.hook('preSubcommand', setCurrent)
    program.addCommand(command)
  }
  program.hook('preSubcommand', setCurrent)
  return program
}

/** The full name of a command, including its parents. */
function commandLine(command: Command): string {
  const { parent } = command
  return parent === null ? command.name() : `${commandLine(parent)} ${command.name()}`
}

/** Removes commander's copy of a rejected value if the reason has the value, too. */
function valueOnce(line: string): string {
  const [, option, value, reason] =
    /^(option '.*?') argument '(.*)' is invalid\. (.*)$/.exec(line) ?? []
  if (option !== undefined && value !== undefined && reason?.includes(`"${value}"`) === true) {
    return `${option}: ${reason}`
  }
  const [, given, argument, why] =
    /^command-argument value '(.*)' is invalid for (argument '.*?')\. (.*)$/.exec(line) ?? []
  if (argument !== undefined && given !== undefined && why?.includes(`"${given}"`) === true) {
    return `${argument}: ${why}`
  }
  return line
}
