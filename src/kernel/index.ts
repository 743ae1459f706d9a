/**
 * The kernel interfaces of post-copy: userfaultfd, memory, page loops, sockets. Usable on its own.
 *
 * @packageDocumentation
 */
export { KernelError, PostcopyError } from '../errors.js'
export { kernelError } from './check.js'
export { hugePageShortage } from './region-hints.js'
export { PageFile } from './page-file.js'
export type { PageFileOptions } from './page-file.js'
export { MemoryRegion } from './memory-region.js'
export type { FileRegionOptions, RegionOptions } from './memory-region.js'
export type { Advice } from './advice.js'
export {
  EVENT_STRIDE,
  FaultEvent,
  FaultFlag,
  ForkEvent,
  RangeEvent,
  RemapEvent,
  UffdEvent,
} from './events.js'
export { Userfaultfd } from './userfaultfd.js'
export type {
  CopyOptions,
  FillOptions,
  MoveOptions,
  RegisterModes,
  WatchOptions,
} from './userfaultfd.js'
export { FaultGuard } from './fault-guard.js'
export type { GuardedRange } from './fault-guard.js'
export {
  AssembleCall,
  Assembly,
  LoadCall,
  PackCall,
  PageFileRun,
  PageRun,
  PlaceCall,
  SendCall,
  StoreCall,
} from './native.js'
export type { OpenMethod } from './native.js'
export type { UserfaultfdOptions } from './open-userfaultfd.js'
export { featureNames } from './features.js'
export type { FeatureName, IoctlName } from './features.js'
export { PageRange, SCAN_STRIDE, categoriesOf } from './pagemap.js'
export type { PageCategory, ScanOptions, ScanResult } from './pagemap.js'
export {
  clearBits,
  countBits,
  findNext,
  findRuns,
  isZero,
  mergeBits,
  roundOut,
  setBits,
} from './bitmaps.js'
export {
  AssembleStop,
  PlaceStop,
  assembleRecords,
  createHostPageAssembly,
  loadRecords,
  packPages,
  pathOf,
  placeRecords,
  scanDirty,
  sendPages,
  storeRecords,
} from './pages.js'
export type { HostPageAssembly, PageMemory } from './pages.js'
export {
  closeFd,
  duplicateFd,
  getSocketOption,
  listenUnixSocket,
  outstandingBytes,
  peerProcessId,
  sendNow,
  setSocketOption,
  spinUntilReadable,
} from './sockets.js'
export type { SocketOption } from './sockets.js'
export { fileExtents } from './file-extents.js'
export { exitProcess } from './exit.js'
export { loadAddon } from './load.js'
export type { RegionKind, RegionLease } from './native.js'
export { probeHost } from './host-report.js'
export type { HostFact, HostReport } from './host-report.js'
export { readPrivileges } from './privileges.js'
export type { CapabilityName, Privileges } from './privileges.js'
export type { OpenMethodReport } from './open-userfaultfd.js'
