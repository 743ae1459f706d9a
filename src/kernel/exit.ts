/**
 * Ends a process that has threads blocked on missing pages. `process.exit()` first joins every
 * worker thread, and a thread that sleeps in a page fault never stops: the process would hang.
 */
import { writeSync } from 'node:fs'
import { inspect } from 'node:util'
import { isMainThread } from 'node:worker_threads'
import { native } from './load.js'

const STDERR = 2

/**
 * Ends the process at once, from any thread, as `_exit(2)` does. It joins no thread, calls no
 * `exit` listener, and loses output that is still queued. Threads blocked on missing pages end
 * inside the kernel, so no missing page is ever read as zeros.
 *
 * @param status - exit status, 0 to 255
 * @throws TypeError, RangeError for any other status
 */
export function exitProcess(status: number): never {
  native().processExit(status)
  throw new Error('_exit has returned')
}

/** Writes to standard error at once, from any thread. Bytes that it does not take are lost. */
export function writeLastWords(text: string): void {
  try {
    writeSync(STDERR, text)
  } catch {
    // A full or closed pipe must not prevent the exit.
  }
}

let isExitForced = false

/**
 * Makes `process.exit()` and an uncaught exception end this process even if worker threads are
 * blocked on missing pages. The present `exit` listeners run first, then {@link exitProcess};
 * listeners added later do not run. Does nothing in a worker, because a worker's exit does not end
 * the process. May be called twice.
 */
export function exitWithParkedThreads(): void {
  if (!isMainThread || isExitForced) return
  isExitForced = true
  process.on('exit', (code) => exitProcess(toStatus(process.exitCode ?? code)))
}

/**
 * Lets the process end after a listener that serves faults threw `error`, although threads may stay
 * blocked on missing pages for good. Call it right before rethrowing the error.
 */
export function exitAfterFailedListener(error: unknown): void {
  if (!isMainThread) return
  const isHandled =
    process.listenerCount('uncaughtException') > 0 || process.hasUncaughtExceptionCaptureCallback()
  // Node prints an uncaught exception after the `exit` listeners, and one of them ends the process.
  if (!isHandled) writeLastWords(`Uncaught ${inspect(error)}\n`)
  exitWithParkedThreads()
}

function toStatus(code: unknown): number {
  return Number(code) & 0xff
}
