/** RAM blocks and sets of their pages: bitmaps, orders, the dirty log. */
export { openDirtyLog } from './dirty-log.js'
export type { DirtyLog, TrackedBlock } from './dirty-log.js'
export { checkDiscards } from './discard-budget.js'
export { PageBitmap } from './page-bitmap.js'
export { MOST_RUNS, PageOrder } from './page-order.js'
export { populate } from './populate.js'
export { bytesOfName, RamBlock } from './ram-block.js'
export type { RamBlockDescriptor } from './ram-block.js'
