/** Options of a source. */
import {
  checkOptionNames,
  checkOptionValues,
  isBoolean,
  type MigrationOptions,
} from '../migration/index.js'
import { PageOrder } from '../ram/index.js'
import type { DirtyLogChoice } from './protocol.js'

export interface SourceOptions extends MigrationOptions {
  /** `tcp:HOST:PORT` or `unix:PATH` of a listening destination. */
  uri: string
  /**
   * How writes of the running guest are tracked; `auto` is `async` if the kernel supports it.
   * `none` is for memory that is never written.
   */
  dirtyLog?: DirtyLogChoice
  /** Switches to postcopy at once: no page is sent before the switch. Needs `postcopy-ram`. */
  postcopyAtOnce?: boolean
  /**
   * A page order over the machine's blocks. Its pages are pushed first, in this order, as soon as
   * the devices are loaded, whatever `x-push-after-quiet-ms` is. The source adds each page that the
   * destination requests; nothing else may add to it meanwhile.
   */
  pageOrder?: PageOrder
  /** Abort cancels before the package is sent; later it does nothing. */
  signal?: AbortSignal
}

const optionNames = [
  'uri',
  'capabilities',
  'parameters',
  'dirtyLog',
  'postcopyAtOnce',
  'pageOrder',
  'signal',
]
const dirtyLogs: readonly unknown[] = ['auto', 'async', 'sync', 'none']

/** @throws PostcopyError `ERR_UNKNOWN_OPTION`, `ERR_INVALID_OPTION` */
export function checkSourceOptions(options: SourceOptions): void {
  checkOptionNames(options, optionNames)
  checkOptionValues(options, {
    dirtyLog: (value) => dirtyLogs.includes(value),
    postcopyAtOnce: isBoolean,
    pageOrder: (value) => value instanceof PageOrder,
    signal: (value) => value instanceof AbortSignal,
  })
}
