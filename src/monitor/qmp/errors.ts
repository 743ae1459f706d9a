/** What a client is told of a failure. */
import { errorToRecord } from '../../errors.js'

/** QMP's classes; the others that QEMU has are for devices. */
export type QmpErrorClass = 'GenericError' | 'CommandNotFound'

export class QmpError extends Error {
  readonly errorClass: QmpErrorClass

  constructor(desc: string, errorClass: QmpErrorClass = 'GenericError') {
    super(desc)
    this.errorClass = errorClass
  }
}

export function describeError(error: unknown): { class: QmpErrorClass; desc: string } {
  return error instanceof QmpError
    ? { class: error.errorClass, desc: error.message }
    : { class: 'GenericError', desc: errorToRecord(error).message }
}
