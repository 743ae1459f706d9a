/**
 * Devices of the guest, other than its vCPUs, that have state to move. All of it is on the main
 * thread; its own pages of guest RAM are the only ones it touches.
 */
import { PostcopyError } from '../../errors.js'
import type { Reader } from '../../stream/index.js'

export interface Device {
  readonly idstr: string
  readonly instanceId: number
  readonly version: number
  /** Called while the machine is stopped. */
  save(): Uint8Array
  /**
   * Reads exactly what {@link save} wrote. May touch guest RAM that has not arrived: the calling
   * thread then sleeps until somebody places the page.
   *
   * @throws PostcopyError `ERR_DEVICE_STATE` for state that does not fit this machine or its RAM
   */
  load(state: Reader): void
  /** The machine starts: go on with what {@link stopped} left open. */
  started?(): void
  /** The vCPUs have stopped: bring guest RAM into the state that is to be moved. */
  stopped?(): void
  /** The pages of `ram` that belong to the device, with the checksum they must have. */
  seals?(): Seal[]
}

/** A page whose content a device knows. */
export interface Seal {
  readonly page: number
  readonly checksum: number
}

/** For what a device refuses to load. */
export function refuseState(device: Device, message: string): never {
  throw new PostcopyError(
    'ERR_DEVICE_STATE',
    `device ${device.idstr} (instance ${device.instanceId}): ${message}`,
  )
}
