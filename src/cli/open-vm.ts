/** Opens what `resume` is given: a directory of postcopy park, a saved file, or a stream. */
import { PostcopyError } from '../errors.js'
import {
  ParkedVm,
  type ParkedVmOptions,
  SavedVm,
  type StoredVm,
  openUnpacked,
} from '../park/index.js'
import { findPacked } from '../sources/index.js'
import { formatByteSize, TARGET_PAGE_SIZE } from '../units.js'
import { statUserFile } from '../user-files.js'
import { type SavedFileOptions, savedOptionsOf } from './options.js'
import { parkProgress } from './park-progress.js'
import type { StatusLine } from './status-line.js'

export interface OpenVmOptions extends SavedFileOptions {
  cache?: string
  /** Ends the unpacking. */
  signal: AbortSignal
}

type Status = Pick<StatusLine, 'note' | 'follow' | 'end'>

/** @throws PostcopyError as {@link ParkedVm.open}, {@link SavedVm.open} and {@link openUnpacked} */
export async function openVm(
  path: string,
  parked: ParkedVmOptions,
  saved: OpenVmOptions,
  status: Status,
): Promise<StoredVm> {
  const kind = kindOf(path)
  if (kind === 'directory') {
    const [option] = Object.keys(savedOptionsOf(saved))
    refuse(option, 'is for a saved file, not for a directory')
    refuseCache(saved)
    return ParkedVm.open(path, parked)
  }
  const packed = kind === 'file' ? await findPacked(path, saved.offset) : undefined
  if (kind === 'pipe' || packed !== undefined) {
    if (saved.snapshot !== undefined) refuse('snapshot', 'is for a qcow2 image')
    if (saved.index !== undefined) refuse('index', 'is for a stream that is read in place')
    if (saved.memory !== undefined) refuse('memory', 'is for a mapped-ram file')
    const vm = await unpack(path, parked, saved, status)
    if (packed?.libvirt?.wasRunning === false) status.note(PAUSED)
    return vm
  }
  refuseCache(saved)
  if (parked.verify === true) {
    refuse('verify', 'is for a directory of postcopy park: other files have no checksums')
  }
  const { pageSizes } = parked
  const vm = await SavedVm.open(path, {
    ...savedOptionsOf(saved),
    ...(pageSizes === undefined ? {} : { pageSizes }),
  })
  note(vm, status)
  return vm
}

function kindOf(path: string): 'directory' | 'file' | 'pipe' {
  if (path === '-') return 'pipe'
  const stat = statUserFile(path)
  if (stat === undefined || stat.isDirectory()) return 'directory'
  return stat.isFIFO() || stat.isSocket() ? 'pipe' : 'file'
}

function refuse(option: string | undefined, why: string): void {
  if (option !== undefined) throw new PostcopyError('ERR_USAGE', `--${option} ${why}`)
}

function refuseCache({ cache }: OpenVmOptions): void {
  if (cache !== undefined)
    refuse('cache', 'is for a compressed file or a pipe: this is read in place')
}

async function unpack(
  path: string,
  parked: ParkedVmOptions,
  { offset, cache, signal }: OpenVmOptions,
  status: Status,
): Promise<ParkedVm> {
  const { vm, wasUnpacked } = await openUnpacked(path, {
    ...parked,
    ...(offset === undefined ? {} : { offset }),
    ...(cache === undefined ? {} : { cache }),
    signal,
    onUnpack: (counters) => {
      status.note(`unpacking ${path === '-' ? 'standard input' : path}`)
      status.follow(() => parkProgress(counters))
    },
  }).finally(() => status.end())
  status.note(`${wasUnpacked ? 'unpacked into' : 'unpacked before, in'} ${vm.directory}`)
  return vm
}

const PAUSED = 'the guest was paused when it was saved: it runs now, unless QEMU has -S'

function note({ image, blocks }: SavedVm, status: Pick<StatusLine, 'note'>): void {
  const bytes = blocks.reduce((sum, { data }) => sum + data.count(), 0) * TARGET_PAGE_SIZE
  status.note(`${image.path}: a saved ${image.machineType} with ${formatByteSize(bytes)} of data`)
  const { index, wasRunning } = image
  if (index?.state === 'not-kept') {
    const next = 'the next resume reads the whole stream again, unless --index names another file'
    status.note(`its index cannot be kept in ${index.file} (${index.reason ?? ''}): ${next}`)
  }
  if (wasRunning === false) status.note(PAUSED)
}

/** After a resume: warns of a file that has changed while it was read. */
export function noteIfChanged(vm: StoredVm, status: Pick<StatusLine, 'note'>): void {
  if (!(vm instanceof SavedVm) || !vm.image.hasChanged) return
  status.note(`${vm.path} has changed while it was read: the guest may have wrong memory`)
}
