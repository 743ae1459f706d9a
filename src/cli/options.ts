/** Options that `guest` and `demo` share, and how their values are read. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { PostcopyError } from '../errors.js'
import { parseWorkload } from '../guest/index.js'
import { parseUri } from '../migration/uri.js'
import { parseByteSize } from '../units.js'

export interface GuestOptions {
  ram: string
  memory: 'anon' | 'memfd' | 'hugetlb'
  vcpus: number
  workload: string
  userModeOnly?: true
}

export const WORKLOAD_HELP =
  'what the vCPUs do: idle, sweep, random, zipf or chase, then options, as in ' +
  'sweep:hot=64M,writes=30 (hot: bytes touched; writes: percent of touches that change their page; ' +
  'also fill, rate, touches, seed)'

/** @param defaults - for what the user does not say */
export function addGuestOptions(
  command: Command,
  defaults: { ram: string; vcpus: number; workload: string },
): Command {
  return command
    .option(
      '--ram <size>',
      'memory of the guest, such as 256M or 2G',
      checked(parseByteSize),
      defaults.ram,
    )
    .addOption(
      new Option(
        '--memory <kind>',
        'what it is made of: private memory, a memfd, or huge pages of 2 MiB (see postcopy doctor)',
      )
        .choices(['anon', 'memfd', 'hugetlb'])
        .default('anon'),
    )
    .option('--vcpus <count>', 'how many threads run the workload', parseCount, defaults.vcpus)
    .option('--workload <text>', WORKLOAD_HELP, checked(parseWorkload), defaults.workload)
    .option(
      '--user-mode-only',
      'as destination, handle page faults of user code only, as an ordinary user without rights must',
    )
}

/** `tcp:HOST:PORT`, `unix:PATH`, or one of some words. */
export function uriOr(...words: readonly string[]): (text: string) => string {
  return (text) => (words.includes(text) ? text : checked(parseUri)(text))
}

/** Lets commander name the option when `parse` refuses its value; the text itself is passed on. */
export function checked(parse: (text: string) => unknown): (text: string) => string {
  return (text) => {
    try {
      parse(text)
      return text
    } catch (error) {
      if (error instanceof PostcopyError) throw new InvalidArgumentError(error.message)
      throw error
    }
  }
}

export function parseCount(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('Give a whole number from 1.')
  return Number(text)
}

/** For an option that may be given several times. */
export function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text]
}
