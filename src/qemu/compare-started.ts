/** Starts a QEMU to compare it with a parked VM, and ends it. */
import type { ParkedVm } from '../park/index.js'
import { printable } from '../printable.js'
import { chooseCommand, memoryFiles, separateSockets } from './command.js'
import { differences, qemuFacts, vmFacts } from './compare.js'
import { readOwnOrigin } from './origin-file.js'
import { PrivateFolder } from './private-folder.js'
import { StartedQemu } from './started-qemu.js'

/**
 * QEMU waits for a migration that never comes, so that it neither runs a guest nor writes to disks.
 *
 * @param words - the command after `--`; empty: the recorded one
 * @returns each difference that this QEMU would refuse
 * @throws PostcopyError `ERR_NO_LAUNCH_RECORD`, `ERR_QEMU_START` with QEMU's last lines
 */
export async function compareWith(vm: ParkedVm, words: readonly string[]): Promise<string[]> {
  const origin = readOwnOrigin(vm.directory, words.length === 0)
  const command = chooseCommand(words, origin)
  const folder = PrivateFolder.create()
  let qemu: StartedQemu | undefined
  try {
    const args = [...command.args, '-S']
    const { directory } = command
    separateSockets(args, { folder: folder.path, directory, isOneOfMany: true })
    qemu = await StartedQemu.start({ ...command, args }, folder)
    const files = memoryFiles(command.args, directory).map(
      (file) => `${printable(file)} exists: QEMU would discard its content when it takes the VM`,
    )
    return [...files, ...differences(vmFacts(vm, origin), await qemuFacts(qemu.client, qemu.vm))]
  } finally {
    await qemu?.end()
    folder.remove()
  }
}
