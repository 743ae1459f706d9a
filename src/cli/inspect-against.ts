/** `postcopy inspect VM --against`: whether a QEMU will take a parked VM. */
import { PostcopyError } from '../errors.js'
import { ParkedVm } from '../park/index.js'
import { output } from './output.js'
import type { CommandRun } from './run-command.js'
import { utf8 } from './utf8.js'

export interface AgainstOptions {
  against?: true
  verify?: true
  allowForeignDirectory?: true
  json?: true
}

/** @throws PostcopyError `ERR_USAGE` for a command without `--against` */
export function checkAgainst(words: readonly string[], { against }: AgainstOptions): void {
  if (against !== true && words.length > 0) {
    throw new PostcopyError('ERR_USAGE', 'a command after -- needs --against')
  }
}

/** @param words - the command of a QEMU; empty: the recorded one */
export async function runAgainst(
  directory: string,
  words: readonly string[],
  options: AgainstOptions,
  { scope }: CommandRun,
): Promise<number> {
  const trust = { allowForeignDirectory: options.allowForeignDirectory === true }
  const vm = ParkedVm.open(directory, { ...trust, verify: options.verify === true })
  scope.defer(() => vm.close())
  const command = words.map((word) => utf8(word, 'an argument of QEMU'))
  const { compareWith } = await import('../qemu/index.js')
  const differences = await compareWith(vm, command)
  if (options.json === true) output.json({ kind: 'comparison', differences })
  else if (differences.length === 0)
    output.print('no difference: this QEMU takes the VM, as far as QMP tells\n')
  else output.print(differences.map((line) => `differs: ${line}\n`).join(''))
  return differences.length === 0 ? 0 : 1
}
