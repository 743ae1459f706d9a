/** Encodes all elements of a migration other than pages. */
import type { Capabilities, DeviceState } from '../migration/index.js'
import { RamBlock, type TrackedBlock } from '../ram/index.js'
import {
  COMMAND_HEADER_BYTES,
  DeviceSectionWriter,
  encode,
  encodeAdvise,
  encodeConfiguration,
  encodeEndOfStream,
  encodeFileHeader,
  encodeFooter,
  encodeOpenReturnPath,
  encodePackage as encodePackageBlob,
  encodePackaged,
  encodePing,
  encodeRamBlockList,
  encodeRamDiscard,
  encodeRamEndOfSection,
  encodeSectionStart,
  encodeVmDescription,
  PingValue,
  RAM_SECTION,
  RAM_SECTION_VERSION,
} from '../stream/index.js'
import { TARGET_PAGE_SIZE } from '../units.js'
import type { SavedDevices } from './protocol.js'

/** Everything before the first page (protocol section 5.1). */
export function encodePrologue(options: {
  readonly machineType: string
  readonly configuration: Uint8Array | undefined
  /** FULL sections of devices that are loaded before RAM. */
  readonly earlySections?: Uint8Array | undefined
  readonly ramSectionId: number
  readonly blocks: readonly RamBlock[]
  readonly capabilities: Capabilities
}): Uint8Array {
  const postcopy = options.capabilities['postcopy-ram']
  return encode((out) => {
    encodeFileHeader(out)
    if (options.configuration === undefined) encodeConfiguration(out, options.machineType)
    else out.bytes(options.configuration)
    if (postcopy || options.capabilities['return-path']) {
      encodeOpenReturnPath(out)
      encodePing(out, PingValue.start)
    }
    if (postcopy) encodeAdvise(out, RamBlock.pageSizeSummary(options.blocks), TARGET_PAGE_SIZE)
    if (options.earlySections !== undefined) out.bytes(options.earlySections)
    const header = {
      id: options.ramSectionId,
      idstr: RAM_SECTION,
      instanceId: 0,
      version: RAM_SECTION_VERSION,
    }
    encodeSectionStart(out, header)
    encodeRamBlockList(
      out,
      options.blocks.map((block) => ({
        name: block.name,
        usedLengthBytes: block.lengthBytes,
        ...(postcopy && block.hostPages > 1 ? { pageSizeBytes: block.hostPageSize } : {}),
      })),
    )
    encodeRamEndOfSection(out)
    encodeFooter(out, options.ramSectionId)
  })
}

/** A discard of every page still owed, as byte ranges, block by block (protocol section 2.2). */
export function encodeDiscards(blocks: readonly TrackedBlock[]): Uint8Array {
  return encode((out) => {
    for (const { block, dirty } of blocks) {
      const ranges: number[] = []
      for (const [start, end] of dirty.runs()) {
        ranges.push(start * TARGET_PAGE_SIZE, (end - start) * TARGET_PAGE_SIZE)
      }
      encodeRamDiscard(out, block.name, ranges)
    }
  })
}

/**
 * The elements that hand the guest over. No destination runs the guest before it has received
 * `last`.
 */
export interface FinalElements {
  readonly body: Uint8Array
  readonly last: Uint8Array
}

/** The switch: a ping, then the package, whose last command is RUN (protocol section 5.3). */
export function encodeSwitch(devices: SavedDevices, ramSectionId: number): FinalElements {
  const bytes = encode((out) => {
    encodePing(out, PingValue.beforePackage)
    encodePackaged(out, encodePackageBlob(encodeDevices(devices, ramSectionId)))
  })
  const run = bytes.length - COMMAND_HEADER_BYTES
  return { body: bytes.subarray(0, run), last: bytes.subarray(run) }
}

/**
 * What follows the `ram` END of a precopy: the devices, EOF, and the description of the devices.
 */
export function encodePrecopyEnd(devices: SavedDevices, ramSectionId: number): FinalElements {
  const last = encode((out) => {
    encodeEndOfStream(out)
    // Opaque sections cannot be described. A description is not needed to load them.
    if (!(devices instanceof Uint8Array)) encodeVmDescription(out, describe(devices))
  })
  return { body: encodeDevices(devices, ramSectionId), last }
}

/** The FULL sections of all devices. */
export function encodeDevices(devices: SavedDevices, ramSectionId: number): Uint8Array {
  if (devices instanceof Uint8Array) return devices
  const writer = new DeviceSectionWriter(ramSectionId + 1)
  for (const { data, ...header } of devices) writer.add(header, (out) => out.bytes(data))
  return writer.take()
}

/**
 * Describes the length of each device section, for readers that do not know our devices: the
 * sections themselves carry no length.
 */
function describe(devices: readonly DeviceState[]): string {
  return JSON.stringify({
    page_size: TARGET_PAGE_SIZE,
    devices: devices.map(({ idstr, instanceId, version, data }) => ({
      name: idstr,
      instance_id: instanceId,
      vmsd_name: idstr,
      version,
      fields: [{ name: 'data', type: 'buffer', size: data.length }],
    })),
  })
}
