import { PostcopyError } from '../errors.js'
import { printable } from '../printable.js'
import { TARGET_PAGE_SIZE, formatByteSize } from '../units.js'
import type { ParkedVm } from './parked-vm.js'

/**
 * QEMU says why it refuses a VM on its own terminal only; what it must be is known here.
 *
 * @param cause - why the migration failed before the guest ran
 */
export function explainRefusal(vm: ParkedVm, cause: PostcopyError): PostcopyError {
  const blocks = vm.blocks.map(({ name, lengthBytes, pageSizeBytes = TARGET_PAGE_SIZE }) => {
    const pages =
      pageSizeBytes > TARGET_PAGE_SIZE ? ` in pages of ${formatByteSize(pageSizeBytes)}` : ''
    return `"${printable(name)}" of ${formatByteSize(lengthBytes)}${pages}`
  })
  const needed = `a "${printable(vm.machineType)}" with the RAM blocks ${blocks.join(', ')}`
  const text = `${cause.message}. The guest does not run there, ${vm.directory} is as it was. It takes ${needed}: QEMU with the options of the one that was parked, and postcopy-ram on. Where it has huge pages and the other had not, or a precopy could not tell, say --page-size`
  return new PostcopyError(cause.code, text, { cause })
}
