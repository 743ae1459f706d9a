/**
 * Page sources: what holds memory that is to be sent, such as the saved files of QEMU and libvirt.
 * They know nothing of the wire.
 */
export type { PageSource, PageSourceBlock } from './page-source.js'
export { openSparseFile } from './sparse-file.js'
export { inspectPacked } from './inspect-packed.js'
export type { PackedHead, PackedReport } from './inspect-packed.js'
export { inspectSaved, listSnapshots } from './inspect-saved.js'
export type { SavedReport } from './inspect-saved.js'
export type { IndexReport } from './indexed-body.js'
export { libvirtFormats } from './libvirt.js'
export type { LibvirtFormat, LibvirtImage, LibvirtSummary } from './libvirt.js'
export { SavedImage, openSaved } from './open-saved.js'
export type { SavedBlock, SavedOptions } from './open-saved.js'
export { SavedRun } from './page-runs.js'
export type { Snapshot } from './qcow2-snapshots.js'
export { findPacked, savedStream } from './saved-stream.js'
export type { Packed } from './saved-stream.js'
export { recognize } from './recognize.js'
export type { Compression, SavedFormat } from './recognize.js'
export { SavedErrorCode, SavedFileError } from './saved-error.js'
