/** The commands and their options, without their implementations. */
import { Command } from 'commander'
import { packageInfo } from '../kernel/internal.js'
import { USAGE_CODE } from './failure.js'
import { defineDemo } from './demo.js'
import { defineDoctor } from './doctor.js'
import { defineExport } from './export.js'
import { defineGuest } from './guest.js'
import { defineInspect } from './inspect.js'
import { defineLab } from './lab.js'
import { definePark } from './park.js'
import { output } from './output.js'
import { defineResume } from './resume.js'
import { runCommand } from './run-command.js'

/** @param setStatus - called with the exit status of the command */
export function createProgram(setStatus: (status: number) => void): Command {
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
  const definitions = [
    defineDemo,
    defineGuest,
    definePark,
    defineResume,
    defineExport,
    defineInspect,
    defineDoctor,
    defineLab,
  ]
  for (const define of definitions) {
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
