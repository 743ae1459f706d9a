import assert from 'node:assert/strict'
import { MachineError, errorToRecord } from '../../src/errors.js'
import {
  Migration,
  attachWhileOpen,
  refusePause,
  refuseRecover,
  releaseUserfaultfd,
  workerLost,
} from '../../src/migration/migration.js'
import { type MigrationState, successors } from '../../src/migration/states.js'
import { openUffd } from '../support/park.js'

const states = Object.keys(successors) as MigrationState[]

class Own extends Migration {
  /** Every state with the code of its reason. */
  readonly log: string[] = []

  constructor() {
    super()
    this.on('state', (state, error) => void this.log.push(`${state} ${error?.code ?? ''}`.trim()))
  }

  enter(...args: Parameters<Migration['setState']>): void {
    this.setState(...args)
  }

  record(error: unknown): ReturnType<Migration['recordHookError']> {
    return this.recordHookError(error)
  }

  get reason(): string | undefined {
    return this.endedByOwner?.message
  }

  end(reason: ReturnType<typeof workerLost>): void {
    this.endByOwner(reason)
    this.settleByOwner()
  }
}

const broken = errorToRecord(workerLost('source', new Error('no memory')))

describe('Migration', () => {
  it('announces each state with its reason, and ends with the first final one', async () => {
    const migration = new Own()
    migration.enter('active')
    migration.enter('postcopy-paused', broken)
    migration.enter('postcopy-active')
    assert.equal(migration.error, undefined)
    migration.enter('completed')
    migration.enter('failed', broken)
    assert.deepEqual(migration.log, [
      'active',
      'postcopy-paused ERR_WORKER_LOST',
      'postcopy-active',
      'completed',
    ])
    await migration.done
    assert.equal(migration.state, 'completed')
  })

  it('rejects `done` with the reason of a failure', async () => {
    const migration = new Own()
    migration.enter('failed', broken)
    await assert.rejects(migration.done, {
      code: 'ERR_WORKER_LOST',
      message: /source worker ended: no memory/,
    })
  })

  it('rejects `done` although the guest is there, if the machine did not start', async () => {
    const migration = new Own()
    migration.enter('completed', broken)
    await assert.rejects(migration.done, { code: 'ERR_WORKER_LOST' })
  })

  it('ends with the first reason of its owner', async () => {
    const migration = new Own()
    migration.end(workerLost('source', undefined))
    migration.end(workerLost('destination', undefined))
    assert.match(migration.reason ?? '', /source/)
    await assert.rejects(migration.done, { message: /source/ })
  })

  it('reports the very error that a hook has thrown, after it went through the worker', () => {
    const migration = new Own()
    const error = new MachineError('start', 'failed', { call: 'start()' })
    const record = structuredClone(migration.record(error))
    migration.enter('failed', record)
    assert.equal(migration.error, error)
  })

  it('continues although a listener throws, and leaves the exception to the process', async () => {
    const migration = new Own()
    const thrown = new Error('of a listener')
    const listeners = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    const caught = new Promise((resolve) => process.once('uncaughtException', resolve))
    migration.on('state', () => {
      throw thrown
    })
    migration.enter('active')
    assert.equal(migration.state, 'active')
    assert.equal(await caught, thrown)
    for (const listener of listeners) process.on('uncaughtException', listener)
  })
})

describe('commands in a state of a migration', () => {
  const accepted = (refuse: (state: MigrationState) => void): MigrationState[] =>
    states.filter((state) => {
      try {
        refuse(state)
        return true
      } catch {
        return false
      }
    })

  it('pause what is in postcopy, or recovers', () => {
    const pausable = ['postcopy-active', 'postcopy-recover-setup', 'postcopy-recover']
    assert.deepEqual(accepted(refusePause).sort(), pausable.sort())
    assert.throws(() => refusePause('active'), { code: 'ERR_STATE_PAUSE' })
  })

  it('recover what is paused, once', () => {
    assert.deepEqual(accepted(refuseRecover), ['postcopy-paused'])
    assert.throws(() => refuseRecover('postcopy-paused', true), {
      code: 'ERR_STATE_RECOVER',
      message: /a recovery is under way/,
    })
    assert.throws(() => refuseRecover('active'), { message: /only a migration that is/ })
  })
})

describe('the userfaultfd of a worker', () => {
  it('is attached while it is open, and closed in the end', () => {
    const uffd = openUffd()
    const own = attachWhileOpen(uffd.id)
    assert.equal(own?.id, uffd.id)
    uffd.close()
    releaseUserfaultfd(own)
    assert.equal(attachWhileOpen(uffd.id), undefined)
    releaseUserfaultfd(undefined)
  })
})
