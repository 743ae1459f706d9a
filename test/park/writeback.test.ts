import assert from 'node:assert/strict'
import { type SyncCalls, Writeback } from '../../src/park/writeback.js'

const BATCH = 8192
const FD = 5
const BATCH_FD = 6

/** A disk whose calls a test ends by itself. It reports an error once for each open description. */
class RecordedCalls implements SyncCalls {
  readonly log: string[] = []
  reopenError: Error | undefined
  #begun: { fd: number; done: (error: Error | null) => void } | undefined
  readonly #unreported = new Map<number, Error>()

  readonly reopen = (fd: number): number => {
    this.log.push(`reopen ${fd}`)
    if (this.reopenError !== undefined) throw this.reopenError
    return BATCH_FD
  }
  readonly begin = (fd: number, done: (error: Error | null) => void): void => {
    this.log.push(`begin ${fd}`)
    this.#begun = { fd, done }
  }
  readonly sync = (fd: number): void => {
    this.log.push(`sync ${fd}`)
    const error = this.#report(fd)
    if (error !== null) throw error
  }
  readonly close = (fd: number): void => void this.log.push(`close ${fd}`)

  /** The disk fails: each description has this error to report. */
  fail(error: Error): void {
    for (const fd of [FD, BATCH_FD]) this.#unreported.set(fd, error)
  }

  /** The thread pool's call returns, but its callback does not run before `callBack`. */
  endInThreadPool(): { callBack: () => void } {
    const begun = this.#begun
    assert(begun !== undefined)
    const error = this.#report(begun.fd)
    return { callBack: () => begun.done(error) }
  }

  end(): void {
    this.endInThreadPool().callBack()
  }

  #report(fd: number): Error | null {
    const error = this.#unreported.get(fd) ?? null
    this.#unreported.delete(fd)
    return error
  }
}

describe('writing a RAM file to disk while it is received', () => {
  it('begins after 32 MiB, and again only when the disk has these', () => {
    const calls = new RecordedCalls()
    const writeback = new Writeback(FD, calls)
    writeback.wrote(BATCH - 1)
    assert.deepEqual(calls.log, [])
    writeback.wrote(1)
    writeback.wrote(3 * BATCH)
    assert.deepEqual(calls.log, ['reopen 5', 'begin 6'])
    calls.end()
    writeback.wrote(1)
    assert.deepEqual(calls.log, ['reopen 5', 'begin 6', 'begin 6'])
  })

  it('reports an error of an earlier batch at the end, which the kernel reports only once', () => {
    const calls = new RecordedCalls()
    const writeback = new Writeback(FD, calls)
    writeback.wrote(BATCH)
    const error = new Error('EIO: i/o error, fdatasync')
    calls.fail(error)
    calls.end()
    writeback.wrote(BATCH)
    calls.end()
    assert.throws(() => writeback.finish(), error)
    assert.throws(() => writeback.finish(), error)
  })

  it('reports an error of a batch whose result is not known yet', () => {
    const calls = new RecordedCalls()
    const writeback = new Writeback(FD, calls)
    writeback.wrote(BATCH)
    const error = new Error('EIO: i/o error, fdatasync')
    calls.fail(error)
    const { callBack } = calls.endInThreadPool()
    assert.throws(() => writeback.finish(), error)
    callBack()
  })

  it('reports an error of the sync at the end again, although a second sync succeeds', () => {
    const calls = new RecordedCalls()
    const writeback = new Writeback(FD, calls)
    const error = new Error('EIO: i/o error, fsync')
    calls.fail(error)
    assert.throws(() => writeback.finish(), error)
    assert.throws(() => writeback.finish(), error)
  })

  it('writes everything at the end if the file cannot be opened again', () => {
    const calls = new RecordedCalls()
    calls.reopenError = new Error('EMFILE: too many open files')
    const writeback = new Writeback(FD, calls)
    writeback.wrote(BATCH)
    writeback.finish()
    writeback.close()
    assert.deepEqual(calls.log, ['reopen 5', 'sync 5', 'close 5'])
  })

  it('closes each description once, after the last call on it', () => {
    const calls = new RecordedCalls()
    const writeback = new Writeback(FD, calls)
    writeback.wrote(BATCH)
    writeback.finish()
    writeback.close()
    writeback.close()
    assert.deepEqual(calls.log.slice(2), ['sync 5', 'close 5'])
    calls.end()
    writeback.wrote(BATCH)
    assert.deepEqual(calls.log.slice(2), ['sync 5', 'close 5', 'close 6'])
    const idle = new RecordedCalls()
    new Writeback(FD, idle).close()
    assert.deepEqual(idle.log, ['close 5'])
  })
})
