import type { Target } from '../target.js'
import { mainChannel, packages, preemptChannel, recoveredChannel, returnPath } from './decoders.js'
import { destination } from './destination.js'
import { qemuArguments, qemuOrigin } from './qemu.js'
import { savedIndex, savedLibvirt, savedQcow2, savedStream } from './saved.js'
import { source } from './source.js'
import { description, json, manifest, workingSet } from './text.js'

/** All of our TypeScript code that reads untrusted data. */
export const targets: Readonly<Record<string, Target>> = {
  'main-channel': mainChannel,
  'recovered-channel': recoveredChannel,
  'preempt-channel': preemptChannel,
  'return-path': returnPath,
  packages,
  json,
  description,
  manifest,
  'working-set': workingSet,
  'qemu-origin': qemuOrigin,
  'qemu-arguments': qemuArguments,
  'saved-stream': savedStream,
  'saved-libvirt': savedLibvirt,
  'saved-qcow2': savedQcow2,
  'saved-index': savedIndex,
  destination,
  source,
}
