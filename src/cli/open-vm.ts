/** Opens what `resume` is given: a directory of postcopy park, or a saved file. */
import { PostcopyError } from '../errors.js'
import { ParkedVm, type ParkedVmOptions, SavedVm, type StoredVm } from '../park/index.js'
import { formatByteSize, TARGET_PAGE_SIZE } from '../units.js'
import { statUserFile } from '../user-files.js'
import { type SavedFileOptions, savedOptionsOf } from './options.js'
import type { StatusLine } from './status-line.js'

/** @throws PostcopyError as {@link ParkedVm.open} and {@link SavedVm.open}; `ERR_USAGE` */
export async function openVm(
  path: string,
  parked: ParkedVmOptions,
  saved: SavedFileOptions,
  status: Pick<StatusLine, 'note'>,
): Promise<StoredVm> {
  const stat = statUserFile(path)
  const isDirectory = stat === undefined || stat.isDirectory()
  const [option] = Object.keys(savedOptionsOf(saved))
  if (isDirectory && option !== undefined) {
    throw new PostcopyError('ERR_USAGE', `--${option} is for a saved file, not for a directory`)
  }
  if (isDirectory) return ParkedVm.open(path, parked)
  if (parked.verify === true) {
    const text = '--verify is for a directory of postcopy park: other files have no checksums'
    throw new PostcopyError('ERR_USAGE', text)
  }
  const { pageSizes } = parked
  const vm = await SavedVm.open(path, {
    ...savedOptionsOf(saved),
    ...(pageSizes === undefined ? {} : { pageSizes }),
  })
  note(vm, status)
  return vm
}

function note({ image, blocks }: SavedVm, status: Pick<StatusLine, 'note'>): void {
  const bytes = blocks.reduce((sum, { data }) => sum + data.count(), 0) * TARGET_PAGE_SIZE
  status.note(`${image.path}: a saved ${image.machineType} with ${formatByteSize(bytes)} of data`)
  const { index, wasRunning } = image
  if (index?.state === 'not-kept') {
    const next = 'the next resume reads the whole stream again, unless --index names another file'
    status.note(`its index cannot be kept in ${index.file} (${index.reason ?? ''}): ${next}`)
  }
  if (wasRunning === false) {
    status.note('the guest was paused when it was saved: it runs now, unless QEMU has -S')
  }
}

/** After a resume: warns of a file that has changed while it was read. */
export function noteIfChanged(vm: StoredVm, status: Pick<StatusLine, 'note'>): void {
  if (!(vm instanceof SavedVm) || !vm.image.hasChanged) return
  status.note(`${vm.path} has changed while it was read: the guest may have wrong memory`)
}
