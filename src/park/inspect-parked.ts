/** Inspects a parked VM and reports everything that is wrong with it. */
import { join } from 'node:path'
import { PostcopyError } from '../errors.js'
import { type DeviceSize, sizeDevices } from '../stream/internal.js'
import type { Manifest } from './manifest.js'
import type { ParkedVmOptions } from './parked-vm.js'
import { ParkedVm, readManifestIn, readParkedFile, withDirectory } from './parked-vm.js'
import type { TrustedDirectory, TrustOptions } from './trusted-directory.js'
import { WORKING_SET_FILE } from './working-set-file.js'
import { type WorkingSetOwner, readWorkingSet } from './working-set.js'

export interface ParkedReport {
  readonly manifest: Manifest
  /** Bytes on disk by block, without holes. */
  readonly diskBytes: ReadonlyMap<string, number>
  /** Undefined if the lengths of the devices' states are not known. */
  readonly devices: readonly DeviceSize[] | undefined
  /**
   * Pages that a resume pushes first; undefined if there is no working set, or it cannot be used.
   */
  readonly workingSet: { readonly pageCount: number } | undefined
  readonly oddities: readonly string[]
  readonly error: PostcopyError | undefined
}

/** @throws PostcopyError if there is no readable manifest */
export function inspectParked(directory: string, options: ParkedVmOptions = {}): ParkedReport {
  return withDirectory(directory, options, (files) => inspectFiles(directory, files, options))
}

function inspectFiles(
  directory: string,
  files: TrustedDirectory,
  options: ParkedVmOptions,
): ParkedReport {
  const manifest = readManifestIn(files)
  const diskBytes = new Map<string, number>()
  for (const { name, file } of manifest.blocks) {
    diskBytes.set(name, files.diskBytes(file))
  }
  const error = failureOf(() => ParkedVm.open(directory, options).close())
  let devices: readonly DeviceSize[] | undefined
  const oddities = error === undefined ? [] : [error.message]
  const { description } = manifest
  if (description !== undefined && error === undefined) {
    const text = readParkedFile(files, description)
    devices = sizeDevices(readParkedFile(files, manifest.devices), text)
    if (devices === undefined)
      oddities.push('the device description does not match the device state')
  }
  const { unsentPages } = manifest.statistics
  if (unsentPages > 0 && manifest.state === 'complete') {
    oddities.push(`${unsentPages} pages were never sent by the source, and are zero`)
  }
  const workingSet = workingSetOf(
    { path: directory, workingSetFile: join(directory, WORKING_SET_FILE), record: manifest },
    options,
    oddities,
  )
  return { manifest, diskBytes, devices, workingSet, oddities, error }
}

/** The VM does not depend on its working set: an unusable one is an oddity, not an error. */
function workingSetOf(
  vm: WorkingSetOwner,
  options: TrustOptions,
  oddities: string[],
): ParkedReport['workingSet'] {
  let found: ParkedReport['workingSet']
  const error = failureOf(() => {
    const order = readWorkingSet(vm.workingSetFile, vm, options)
    if (order !== undefined) found = { pageCount: order.pageCount }
  })
  if (error !== undefined) oddities.push(error.message)
  return found
}

function failureOf(act: () => void): PostcopyError | undefined {
  try {
    act()
    return undefined
  } catch (error) {
    if (error instanceof PostcopyError) return error
    throw error
  }
}
