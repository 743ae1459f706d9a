/** `--qemu-log FILE`: QEMU's standard error while a VM is sent to it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { errorToRecord } from '../errors.js'
import { readAdded, statUserFile } from '../user-files.js'

/** A refusal is one or two lines. */
const LIMIT_BYTES = 64 * 1024
/** QEMU may close its connections before it writes the reason. */
const MOST_WAITS = 20
/** A file that has not grown for this long is complete. */
const WAIT_MS = 100

export class QemuLog {
  readonly #file: string
  /** Its current content is from an earlier run. */
  readonly #from: number

  /**
   * @param file - may be missing; it is opened only by {@link read}
   * @throws PostcopyError with the errno name if stat(2) fails
   */
  constructor(file: string) {
    this.#file = file
    const stat = statUserFile(file)
    this.#from = stat?.isFile() === true ? stat.size : 0
  }

  /**
   * Reads the end of what QEMU has written since the constructor. Waits up to two seconds for it.
   *
   * @param onUnreadable - called with the reason if it cannot be read; the result is then undefined
   */
  async read(onUnreadable: (text: string) => void): Promise<string | undefined> {
    try {
      let added = this.#readAdded()
      for (let waits = 0; waits < MOST_WAITS; waits += 1) {
        await sleep(WAIT_MS)
        const before = added
        added = this.#readAdded()
        if (added.length > 0 && added.equals(before)) break
      }
      return added.toString()
    } catch (error) {
      const { code, message } = errorToRecord(error)
      onUnreadable(`--qemu-log cannot be read: ${message} [${code}]`)
      return undefined
    }
  }

  #readAdded(): Buffer {
    return readAdded(this.#file, this.#from, LIMIT_BYTES)
  }
}
