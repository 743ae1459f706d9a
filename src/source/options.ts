/** What a source is told at its start. */
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
   * How writes of the running guest are found; `auto` is `async` where the kernel has it. `none`
   * is for memory that nobody writes.
   */
  dirtyLog?: DirtyLogChoice
  /** Postcopy from the first moment: no page is sent before the switch. Needs `postcopy-ram`. */
  postcopyAtOnce?: boolean
  /**
   * Over the machine's blocks. Its pages are pushed first, in this order, as soon as the devices
   * are loaded, whatever `x-push-after-quiet-ms` says. What the destination asks for is added to it
   * while it does; nobody else may add then.
   */
  pageOrder?: PageOrder
  /** Before the package is sent, abort cancels; later it does nothing. */
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
