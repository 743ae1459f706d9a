/** The errors that a client receives. */
import { errorToRecord } from '../../errors.js'

/** QMP's error classes; QEMU's other ones are for devices. */
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
