/** Errors of a QMP connection. */
import { PostcopyError } from '../errors.js'
import { printable } from '../printable.js'

/** Most characters of a message of QEMU. */
const MOST_QUOTED = 1000

/**
 * `ERR_QMP_CONNECT`: there is no QMP at that address. `ERR_QMP_CLOSED`, `ERR_QMP_TIMEOUT`: a command
 * got no answer. `ERR_QMP_PROTOCOL`: the peer sent something that is not QMP.
 */
export class QmpError extends PostcopyError {}

/** QEMU has answered a command with an error. */
export class QmpRefusal extends QmpError {
  readonly command: string
  /** `GenericError`, `CommandNotFound`, … */
  readonly errorClass: string
  /** QEMU's own words. */
  readonly desc: string

  constructor(command: string, errorClass: string, desc: string) {
    super('ERR_QMP_REFUSED', `QEMU refused ${command}: ${printable(desc, MOST_QUOTED)}`)
    this.command = command
    this.errorClass = errorClass
    this.desc = desc
  }
}
