/** For other parts of this package, not for its users. */
export { FileBytes } from './file-bytes.js'
export { type FileStamp, stampFits, stampOf } from './file-stamp.js'
export {
  LIBVIRT_HEADER_BYTES,
  LIBVIRT_MAGIC,
  LIBVIRT_VERSION,
  libvirtFormats,
  MOST_LIBVIRT_DATA_BYTES,
} from './libvirt.js'
export { checkSnapshotOption } from './open-saved.js'
export { findLibvirt } from './saved-stream.js'
export { streamPlace } from './index-file.js'
