/** Exports for other folders; not part of the package's interface. */
export { listDevices } from './device-list.js'
export { parseFields, UntrustedFields } from './fields.js'
export { withDirectory } from './parked-vm.js'
export { TrustedDirectory } from './trusted-directory.js'
