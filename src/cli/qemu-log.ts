/** `--qemu-log FILE`: what a QEMU writes to its standard error while it is sent a VM. */
import { errorToRecord } from '../errors.js'
import { readAdded, statUserFile } from '../user-files.js'

/** A refusal is a line or two. */
const LIMIT_BYTES = 64 * 1024

export class QemuLog {
  readonly #file: string
  /** What is in it by now is of an earlier run. */
  readonly #from: number

  /**
   * @param file - may be missing; it is opened only by {@link read}
   * @throws PostcopyError with the errno name where it cannot be looked at
   */
  constructor(file: string) {
    this.#file = file
    const stat = statUserFile(file)
    this.#from = stat?.isFile() === true ? stat.size : 0
  }

  /**
   * The end of what QEMU has written since then.
   *
   * @param onUnreadable - called with why it cannot be read; the result is then undefined
   */
  read(onUnreadable: (text: string) => void): string | undefined {
    try {
      return readAdded(this.#file, this.#from, LIMIT_BYTES).toString()
    } catch (error) {
      const { code, message } = errorToRecord(error)
      onUnreadable(`--qemu-log cannot be read: ${message} [${code}]`)
      return undefined
    }
  }
}
