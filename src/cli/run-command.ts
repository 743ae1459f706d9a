/** Runs a command: signals, cleanup, error report and exit status. */
import { setTimeout as sleep } from 'node:timers/promises'
import { errorToRecord } from '../errors.js'
import { reportFailure } from './failure.js'
import { output } from './output.js'
import { Scope, ScopeClosed } from './scope.js'
import { Interrupted, Signals } from './signals.js'

/** How long a command may take to end after everything is closed. */
const LAST_WORD_MS = 1000

export interface CommandRun {
  /** Undoes what the command has set up. */
  readonly scope: Scope
  readonly signals: Signals
}

/**
 * Runs a command to its end and undoes what it has set up. Never rejects.
 *
 * @param body - returns the exit status
 * @returns the exit status: 128 + its number after a signal, 1 after an error
 */
export async function runCommand(
  body: (run: CommandRun) => number | Promise<number>,
): Promise<number> {
  const signals = new Signals()
  const scope = new Scope((error) => {
    const { code, message } = errorToRecord(error)
    output.note(`during cleanup: ${message} [${code}]`)
  })
  let status = 1
  signals.arm()
  const work = Promise.resolve({ scope, signals }).then(body)
  try {
    status = await Promise.race([work, signals.interrupted])
  } catch (error) {
    if (error instanceof Interrupted) output.note(error.message)
    else reportFailure(error)
    await scope.close()
    // An interrupted command still reports what is kept, and where.
    if (error instanceof Interrupted) await lastWord(work)
  }
  await scope.close()
  signals.disarm()
  return signals.status ?? status
}

/** Reports the error of an interrupted command, if it fails soon. */
async function lastWord(work: Promise<unknown>): Promise<void> {
  try {
    await Promise.race([work, sleep(LAST_WORD_MS, undefined, { ref: false })])
  } catch (error) {
    if (!(error instanceof ScopeClosed)) reportFailure(error)
  }
}

/** Runs the action of a command with {@link runCommand} and keeps its exit status. */
export type RunAction = (body: (run: CommandRun) => number | Promise<number>) => Promise<void>
