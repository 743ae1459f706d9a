/**
 * Whether the guest ran when it was stopped for the migration. This is QEMU's device of the same
 * name, and the last one in the package.
 *
 * State, version 1: u32 length of the name with its NUL, 100 bytes: name, NUL, zeros.
 */
import { printable } from '../../printable.js'
import { type Reader, Writer } from '../../stream/index.js'
import { refuseState, type Device } from './device.js'

const NAME_BYTES = 100
const RUN_STATES = ['running', 'paused'] as const

export type SavedRunState = (typeof RUN_STATES)[number]

export class GlobalState implements Device {
  readonly idstr = 'globalstate'
  readonly instanceId = 0
  readonly version = 1
  runState: SavedRunState = 'paused'

  save(): Uint8Array {
    const out = new Writer().u32(this.runState.length + 1).bytes(Buffer.from(this.runState))
    return out.bytes(new Uint8Array(NAME_BYTES - this.runState.length)).take()
  }

  load(state: Reader): void {
    const length = state.u32()
    const field = state.name(NAME_BYTES)
    const name = field.slice(0, Math.max(0, length - 1))
    const known = RUN_STATES.find((runState) => runState === name)
    if (known === undefined || field.charCodeAt(known.length) !== 0) {
      refuseState(
        this,
        `unknown run state "${printable(name, 20)}": one of ${RUN_STATES.join(', ')}`,
      )
    }
    this.runState = known
  }
}
