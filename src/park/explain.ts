/** Explains why a QEMU has refused a VM, the most likely reason first. */
import { PostcopyError, errorFromRecord, errorToRecord } from '../errors.js'
import { printable, sentence } from '../printable.js'
import { TARGET_PAGE_SIZE, formatByteSize } from '../units.js'
import { describeDevices, listDevices } from './device-list.js'
import type { StoredVm } from './stored-vm.js'

/** The RAM block of a PCI device's ROM. */
const ROM = /^[\da-f]{4}:.*\.rom$/
/** Most characters of a device list. */
const MOST_LISTED = 2000
/** Most lines of QEMU's output. */
const MOST_LINES = 5

export interface RefusalEvidence {
  /**
   * What QEMU had received when it closed: `setup` is everything before its devices. QEMU reads all
   * devices at once, so nothing on the wire tells which device it refused.
   */
  readonly stage: 'setup' | 'devices'
  /** QEMU's output on stderr, if available. */
  readonly output?: string
}

/**
 * Why a QEMU has refused a parked VM. The first line names the difference, or says that it is
 * unknown; the next lines list what the VM needs.
 *
 * @param cause - why the migration failed before the guest ran
 */
export function explainRefusal(
  vm: StoredVm,
  cause: PostcopyError,
  evidence: RefusalEvidence,
): PostcopyError {
  const { stage, output = '' } = evidence
  const known = reasonIn(output)
  // After the package, a close without an error does not prove that the guest is not running there.
  const runsNot = known !== undefined || stage === 'setup' ? 'The guest does not run there, ' : ''
  const reason = known ?? likelyReason(vm, stage)
  const text = `${reason}.\n${sentence(cause.message)} ${runsNot}${vm.path} is unchanged.\n${needs(vm)}${lastWords(output)}`
  return new PostcopyError(cause.code, text, { cause })
}

/**
 * Why a recovery was refused: a QEMU without a paused postcopy exits at the first bytes of one.
 *
 * @param cause - why it failed before the destination answered
 * @param output - QEMU's output on stderr, if available
 */
export function explainRecoveryRefusal(
  vm: StoredVm,
  cause: PostcopyError,
  output = '',
): PostcopyError {
  const isKnown = output.includes('Not a migration stream')
  const reason = isKnown
    ? 'the QEMU there has no paused postcopy: it took the recovery for a new migration and refused it'
    : 'the QEMU there may have no paused postcopy: its output then has "Not a migration stream"'
  const goOn = 'migrate_recover there and resume --recover here continue the migration'
  const where = isKnown
    ? `If another QEMU is postcopy-paused (info migrate), ${goOn}`
    : `If it is postcopy-paused (info migrate), ${goOn}`
  // A spill is not the whole VM.
  const again = vm.isWhole
    ? 'If no QEMU has the guest, a plain resume into a new QEMU starts it from the parked state. '
    : ''
  const text = `${reason}. ${where}. ${again}${vm.path} is unchanged.\n${sentence(cause.message)}${lastWords(output)}`
  return new PostcopyError(cause.code, text, { cause })
}

/**
 * Why a VM was not parked, and where its guest is. The guest was never taken over, and nothing is
 * on disk.
 *
 * @param mayHaveSwitched - the source may be in postcopy, where it does not start the guest by
 *   itself
 * @returns an error of the same class
 */
export function explainFailure(cause: unknown, mayHaveSwitched: boolean): PostcopyError {
  const keeps = 'Nothing is left on disk. The source has the guest, if its process still runs'
  const next = mayHaveSwitched
    ? ', unless it has switched to postcopy (info migrate)'
    : ': if the guest is stopped there (info status), cont starts it'
  const record = errorToRecord(cause)
  return errorFromRecord({ ...record, message: `${sentence(record.message)} ${keeps}${next}` })
}

/** The last lines of QEMU's output. */
function lastWords(output: string): string {
  const lines = output.split('\n').filter((line) => line.trim() !== '')
  if (lines.length === 0) return ''
  return `\nThe last lines of QEMU's output:${lines
    .slice(-MOST_LINES)
    .map((line) => `\n${printable(line)}`)
    .join('')}`
}

function likelyReason(vm: StoredVm, stage: RefusalEvidence['stage']): string {
  if (stage === 'devices') {
    const needed = describeDevices(listDevices(vm.saveDevices()))
    return `QEMU may have refused a device: its output then names the device ("Unknown savevm section"); the VM has ${needed === '' ? 'devices that cannot be listed' : printable(needed, MOST_LISTED)}`
  }
  const roms = vm.blocks.filter(({ name }) => ROM.test(name)).map(({ name }) => name)
  const romHint = roms.length === 0 ? '' : `, a ROM (romfile= of ${printable(roms.join(', '))})`
  return `QEMU refused the VM before its devices. Its output has the reason; likely ones: another -machine than ${printable(vm.machineType)}, other RAM (-m)${romHint}, or postcopy-ram is off`
}

/** Explains QEMU's error message in terms of its options; undefined if the message is not known. */
function reasonIn(output: string): string | undefined {
  const [, device, instance] =
    /Unknown savevm section or instance '([^'\n]+)' (\d+)/.exec(output) ?? []
  if (device !== undefined) return missingDevice(printable(device), Number(instance))
  const [, block, is, has] = /Size mismatch: (\S+): (0x[\da-f]+) != (0x[\da-f]+)/.exec(output) ?? []
  if (block !== undefined) {
    const option = ROM.test(block) ? 'its romfile=' : '-m, or the firmware,'
    const [sent, there] = [is, has].map((size) => formatByteSize(Number(size)))
    return `RAM block "${printable(block)}" has ${sent} here and ${there} there: ${option} differs`
  }
  const [, unknown] = /Unknown ramblock "([^"\n]+)"/.exec(output) ?? []
  if (unknown !== undefined) {
    return `RAM block "${printable(unknown)}" is missing there: its device, or its romfile=, is`
  }
  const [, longer] = /Missing section footer for ([^\n]+)/.exec(output) ?? []
  if (longer !== undefined) {
    return `the state of the device "${printable(longer.trim())}" has another length there: -smp differs, most likely its maxcpus=`
  }
  const [, sent, local] =
    /Machine type received is '([^'\n]+)' and local is '([^'\n]+)'/.exec(output) ?? []
  if (sent !== undefined) {
    return `-machine there is ${printable(local ?? '')}, the VM is a ${printable(sent)}`
  }
  return /postcopy is disabled/i.test(output)
    ? 'the capability postcopy-ram is off there'
    : undefined
}

function missingDevice(idstr: string, instance: number): string {
  if (idstr === 'cpu_common') return `vCPU ${instance} is missing there: -smp has to be larger`
  const [, slot, name] = /^[\da-f]{4}:[\da-f]{2}:([\da-f]{2}\.[0-7])\/(.+)$/.exec(idstr) ?? []
  return slot === undefined
    ? `the device "${idstr}" (instance ${instance}) is missing there`
    : `there is no ${name} in PCI slot ${slot} (-device …,addr=${slot})`
}

function needs(vm: StoredVm): string {
  const blocks = vm.blocks.map(({ name, lengthBytes, pageSizeBytes }) => {
    const pages =
      pageSizeBytes > TARGET_PAGE_SIZE ? ` in pages of ${formatByteSize(pageSizeBytes)}` : ''
    return `"${printable(name)}" of ${formatByteSize(lengthBytes)}${pages}`
  })
  return `It takes a "${printable(vm.machineType)}" with the RAM blocks ${blocks.join(', ')}: start QEMU with the options of the parked one, and postcopy-ram on. Give --page-size if this QEMU has huge pages and the parked one had none, or was parked by precopy`
}
