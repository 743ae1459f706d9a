import assert from 'node:assert/strict'
import { type SyncCalls, Writeback } from '../../src/park/writeback.js'

const BATCH = 8192

/** Calls that a test ends by itself. */
class RecordedCalls implements SyncCalls {
  readonly log: string[] = []
  #done: ((error: Error | null) => void) | undefined

  readonly begin = (_fd: number, done: (error: Error | null) => void): void => {
    this.log.push('begin')
    this.#done = done
  }
  readonly sync = (): void => void this.log.push('sync')
  readonly close = (): void => void this.log.push('close')

  end(error: Error | null = null): void {
    this.#done?.(error)
  }
}

describe('writing a RAM file to disk while it is received', () => {
  it('begins after 32 MiB, and again only when the disk has these', () => {
    const calls = new RecordedCalls()
    const writeback = new Writeback(5, calls)
    writeback.wrote(BATCH - 1)
    assert.deepEqual(calls.log, [])
    writeback.wrote(1)
    writeback.wrote(3 * BATCH)
    assert.deepEqual(calls.log, ['begin'])
    calls.end()
    writeback.wrote(1)
    assert.deepEqual(calls.log, ['begin', 'begin'])
  })

  it('reports an error of an earlier batch at the end, which the kernel reports only once', () => {
    const calls = new RecordedCalls()
    const writeback = new Writeback(5, calls)
    writeback.wrote(BATCH)
    const error = new Error('EIO: i/o error, fdatasync')
    calls.end(error)
    writeback.wrote(BATCH)
    calls.end()
    assert.throws(() => writeback.finish(), error)
    assert.deepEqual(calls.log, ['begin', 'begin', 'sync'])
  })

  it('closes the file once, after the last call on it', () => {
    const calls = new RecordedCalls()
    const writeback = new Writeback(5, calls)
    writeback.wrote(BATCH)
    writeback.finish()
    writeback.close()
    writeback.close()
    assert.deepEqual(calls.log, ['begin', 'sync'])
    calls.end()
    writeback.wrote(BATCH)
    assert.deepEqual(calls.log, ['begin', 'sync', 'close'])
    const idle = new RecordedCalls()
    new Writeback(5, idle).close()
    assert.deepEqual(idle.log, ['close'])
  })
})
