/** Identifies a saved file without reading all of it. */
import type { ByteSource, FileBytes } from './file-bytes.js'
import { type Sample, samplesFit, takeSamples } from './samples.js'

export interface FileStamp {
  /** Length of the file or block device, and time of its last change. */
  readonly fileBytes: number
  readonly modifiedNs: string
  readonly samples: readonly Sample[]
}

/** @param source - the bytes to take samples of, if they are not those of the file itself */
export async function stampOf(file: FileBytes, source: ByteSource = file): Promise<FileStamp> {
  return {
    fileBytes: file.endOffset,
    modifiedNs: String(file.modifiedNs),
    samples: await takeSamples(source),
  }
}

/** Whether this is still the file that was stamped. The time of a block device does not count. */
export async function stampFits(
  { fileBytes, modifiedNs, samples }: FileStamp,
  file: FileBytes,
  source: ByteSource = file,
): Promise<boolean> {
  if (fileBytes !== file.endOffset) return false
  if (!file.isBlockDevice && modifiedNs !== String(file.modifiedNs)) return false
  return samplesFit(source, samples)
}
