/**
 * Devices of the guest, other than its vCPUs, that have state to migrate. They run on the main
 * thread, and touch only their own pages of guest RAM.
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
   * thread then sleeps until the page is placed.
   *
   * @throws PostcopyError `ERR_DEVICE_STATE` for state that does not fit this machine or its RAM
   */
  load(state: Reader): void
  /** The machine starts: continue the work that {@link stopped} left open. */
  started?(): void
  /** The vCPUs have stopped: bring guest RAM into the state that is to be migrated. */
  stopped?(): void
  /** The pages of `ram` that belong to the device, with the checksum they must have. */
  seals?(): Seal[]
}

/** A page whose content a device knows. */
export interface Seal {
  readonly page: number
  readonly checksum: number
}

/** Rejects the state of a device. */
export function refuseState(device: Device, message: string): never {
  throw new PostcopyError(
    'ERR_DEVICE_STATE',
    `device ${device.idstr} (instance ${device.instanceId}): ${message}`,
  )
}
