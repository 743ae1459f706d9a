/**
 * The end of a process that has threads in missing pages. `process.exit()` first waits for every
 * worker thread, and one that sleeps in a page fault never stops: the process would hang.
 */
import { writeSync } from 'node:fs'
import { inspect } from 'node:util'
import { isMainThread } from 'node:worker_threads'
import { native } from './load.js'

const STDERR = 2

/**
 * Ends the process at once, from any thread, as `_exit(2)` does: no thread is waited for, no
 * `exit` listener is called, and output that is still queued is lost. Threads that are parked in
 * missing pages end inside the kernel, so no page is ever read as zeros.
 *
 * @param status - exit status, 0 to 255
 * @throws TypeError, RangeError for any other status
 */
export function exitProcess(status: number): never {
  native().processExit(status)
  throw new Error('_exit has returned')
}

/** Writes to standard error at once, from any thread; what does not fit there is lost. */
export function writeLastWords(text: string): void {
  try {
    writeSync(STDERR, text)
  } catch {
    // A full or closed pipe must not keep the process.
  }
}

let isExitForced = false

/**
 * From now on `process.exit()`, and an uncaught exception, end this process although worker
 * threads are parked: after the `exit` listeners that are there now, by {@link exitProcess}.
 * Listeners that are added later are not called. Does nothing in a worker, whose exit is not that
 * of the process. May be called twice.
 */
export function exitWithParkedThreads(): void {
  if (!isMainThread || isExitForced) return
  isExitForced = true
  process.on('exit', (code) => exitProcess(toStatus(process.exitCode ?? code)))
}

/**
 * A listener that serves faults has thrown `error`: what it served may stay parked for good. The
 * process can end all the same. To be called right before the error is thrown on.
 */
export function exitAfterFailedListener(error: unknown): void {
  if (!isMainThread) return
  const isHandled =
    process.listenerCount('uncaughtException') > 0 || process.hasUncaughtExceptionCaptureCallback()
  // Node prints an uncaught exception after the `exit` listeners, so after the end of the process.
  if (!isHandled) writeLastWords(`Uncaught ${inspect(error)}\n`)
  exitWithParkedThreads()
}

function toStatus(code: unknown): number {
  return Number(code) & 0xff
}
