import assert from 'node:assert/strict'
import { PostcopyError } from '../../../src/errors.js'
import { qmpCommands } from '../../../src/monitor/qmp/commands.js'
import { QmpSession } from '../../../src/monitor/qmp/session.js'
import type { QmpControl } from '../../../src/monitor/qmp/target.js'

/** Records its calls; implements everything that QMP can call. */
function everything(calls: unknown[]): Required<QmpControl> {
  const note =
    (name: string) =>
    (...args: readonly unknown[]): void => {
      calls.push([name, ...args])
    }
  return {
    queryStatus: () => ({ running: true, status: 'running' }),
    queryMigrate: () => ({ status: 'active' }),
    quit: note('quit'),
    stop: note('stop'),
    cont: note('cont'),
    migrate: note('migrate'),
    migrateIncoming: (uri) => {
      calls.push(['migrateIncoming', uri])
      return Promise.resolve('tcp:127.0.0.1:4444')
    },
    resumeMigration: (uri) => {
      calls.push(['resumeMigration', uri])
      return Promise.resolve()
    },
    migrateRecover: (uri) => {
      calls.push(['migrateRecover', uri])
      return Promise.resolve('tcp:127.0.0.1:4444')
    },
    startPostcopy: note('startPostcopy'),
    cancel: note('cancel'),
    pause: note('pause'),
    queryCapabilities: () => ({ 'postcopy-ram': true, events: false }),
    setCapabilities: note('setCapabilities'),
    queryParameters: () => ({ 'max-bandwidth': 1, 'downtime-limit': 300, 'tls-creds': '' }),
    setParameters: note('setParameters'),
  }
}

async function negotiated(control: QmpControl): Promise<QmpSession> {
  const session = new QmpSession(control)
  await session.answer({ value: { execute: 'qmp_capabilities' } })
  return session
}

describe('a QMP session', () => {
  it('greets with the version and no capabilities', () => {
    const { QMP } = new QmpSession(everything([])).greeting() as {
      QMP: { version: { qemu: object; package: string }; capabilities: unknown[] }
    }
    assert.deepEqual(Object.keys(QMP.version.qemu), ['major', 'minor', 'micro'])
    assert.match(QMP.version.package, /^postcopy \d/)
    assert.deepEqual(QMP.capabilities, [])
  })

  it('runs no command before the negotiation, and negotiates only once', async () => {
    const calls: unknown[] = []
    const session = new QmpSession(everything(calls))
    const answers: unknown[] = []
    for (const value of [
      { execute: 'stop', id: 1 },
      { execute: 'qmp_capabilities', arguments: { enable: ['oob'] }, id: 2 },
      { execute: 'qmp_capabilities', arguments: { enable: [] }, id: [3] },
      { execute: 'qmp_capabilities', id: null },
    ]) {
      answers.push(await session.answer({ value }))
    }
    const notFound = (desc: string): object => ({ class: 'CommandNotFound', desc })
    assert.deepEqual(answers, [
      { error: notFound("Expecting capabilities negotiation with 'qmp_capabilities'"), id: 1 },
      {
        error: {
          class: 'GenericError',
          desc: "Parameter 'enable[0]' does not accept value 'oob'",
        },
        id: 2,
      },
      { return: {}, id: [3] },
      {
        error: notFound('Capabilities negotiation is already complete, command ignored'),
        id: null,
      },
    ])
    assert.deepEqual(calls, [])
  })

  const refused: readonly (readonly [unknown, string])[] = [
    [[], 'QMP input must be a JSON object'],
    [null, 'QMP input must be a JSON object'],
    ['stop', 'QMP input must be a JSON object'],
    [{}, "QMP input lacks member 'execute'"],
    [{ execute: 1 }, "QMP input member 'execute' must be a string"],
    [{ execute: 'stop', arguments: [] }, "QMP input member 'arguments' must be an object"],
    [{ execute: 'stop', argument: {} }, "QMP input member 'argument' is unexpected"],
    [{ 'exec-oob': 'stop' }, "QMP input member 'exec-oob' is unexpected"],
    [{ execute: 'toString' }, 'The command toString has not been found'],
  ]
  for (const [value, desc] of refused) {
    it(`refuses ${JSON.stringify(value)}`, async () => {
      const session = await negotiated(everything([]))
      const { error } = (await session.answer({ value })) as { error: { desc: string } }
      assert.equal(error.desc, desc)
    })
  }

  it('answers garbage and failed commands with an error', async () => {
    const session = await negotiated({
      ...everything([]),
      pause: () => {
        throw new PostcopyError('ERR_EXAMPLE', 'not now')
      },
      stop: () => Promise.reject(new Error('never')),
    })
    const generic = (desc: string): object => ({ class: 'GenericError', desc })
    assert.deepEqual(await session.answer({ error: 'JSON parse error, x' }), {
      error: generic('JSON parse error, x'),
    })
    assert.deepEqual(await session.answer({ value: { execute: 'migrate-pause', id: 'a' } }), {
      error: generic('not now'),
      id: 'a',
    })
    assert.deepEqual(await session.answer({ value: { execute: 'stop' } }), {
      error: generic('never'),
    })
  })
})

describe('QMP commands', () => {
  const uri = 'tcp:127.0.0.1:4444'
  /** Command, arguments, answer, and the recorded calls. */
  const good: readonly (readonly [string, object, unknown, ...(readonly unknown[])[]])[] = [
    ['query-status', {}, { running: true, status: 'running' }],
    ['query-migrate', {}, { status: 'active' }],
    ['stop', {}, {}, ['stop']],
    ['cont', {}, {}, ['cont', { force: false }]],
    ['cont', { 'x-force': true }, {}, ['cont', { force: true }]],
    ['quit', {}, {}, ['quit', { force: false }]],
    ['quit', { 'x-force': true }, {}, ['quit', { force: true }]],
    ['migrate', { uri }, {}, ['migrate', uri]],
    ['migrate', { uri, detach: true }, {}, ['migrate', uri]],
    ['migrate', { uri, resume: true }, {}, ['resumeMigration', uri]],
    ['migrate-recover', { uri }, {}, ['migrateRecover', uri]],
    ['migrate-incoming', { uri }, {}, ['migrateIncoming', uri]],
    ['migrate-start-postcopy', {}, {}, ['startPostcopy']],
    ['migrate_cancel', {}, {}, ['cancel']],
    ['migrate-pause', {}, {}, ['pause']],
    [
      'query-migrate-capabilities',
      {},
      [
        { capability: 'postcopy-ram', state: true },
        { capability: 'events', state: false },
      ],
    ],
    [
      'migrate-set-capabilities',
      {
        capabilities: [
          { capability: 'events', state: true },
          { capability: 'postcopy-ram', state: false },
        ],
      },
      {},
      ['setCapabilities', { events: true, 'postcopy-ram': false }],
    ],
    [
      'query-migrate-parameters',
      {},
      { 'max-bandwidth': 1, 'downtime-limit': 300, 'tls-creds': '' },
    ],
    [
      'migrate-set-parameters',
      { 'max-bandwidth': 0 },
      {},
      ['setParameters', { 'max-bandwidth': 0 }],
    ],
    ['migrate-set-parameters', { 'tls-creds': '/x' }, {}, ['setParameters', { 'tls-creds': '/x' }]],
    ['migrate-set-parameters', {}, {}, ['setParameters', {}]],
  ]
  for (const [execute, args, answer, ...expected] of good) {
    it(`${execute} ${JSON.stringify(args)}`, async () => {
      const calls: unknown[] = []
      const session = await negotiated(everything(calls))
      const said = await session.answer({ value: { execute, arguments: args } })
      assert.deepEqual(said, { return: answer })
      assert.deepEqual(calls, expected)
    })
  }

  it('have a test each', () => {
    const tested = new Set([...good.map(([name]) => name), 'query-commands', 'query-version'])
    assert.deepEqual(qmpCommands.map(({ name }) => name).sort(), [...tested].sort())
  })

  it('query-version returns the version of the greeting', async () => {
    const session = await negotiated(everything([]))
    const said = await session.answer({ value: { execute: 'query-version' } })
    assert.deepEqual(said['return'], (session.greeting()['QMP'] as { version: object }).version)
  })

  it('exist only if the target supports them', async () => {
    const { queryStatus, queryMigrate, quit, cancel } = everything([])
    const session = await negotiated({ queryStatus, queryMigrate, quit, cancel })
    const list = await session.answer({ value: { execute: 'query-commands' } })
    assert.deepEqual(
      (list['return'] as { name: string }[]).map(({ name }) => name),
      ['qmp_capabilities', 'query-commands', 'query-version', 'query-status', 'quit'].concat(
        'migrate_cancel',
        'query-migrate',
      ),
    )
    const { error } = await session.answer({ value: { execute: 'stop' } })
    assert.deepEqual(error, {
      class: 'CommandNotFound',
      desc: 'The command stop has not been found',
    })
  })

  const bad: readonly (readonly [string, object, string])[] = [
    ['migrate', {}, "Parameter 'uri' is missing"],
    ['migrate', { uri: 5 }, "Invalid parameter type for 'uri', expected: string"],
    ['migrate', { uri, blk: 1 }, "Parameter 'blk' is unexpected"],
    ['migrate', { uri, detach: 'no' }, "Invalid parameter type for 'detach', expected: boolean"],
    ['migrate-incoming', { URI: uri }, "Parameter 'uri' is missing"],
    ['stop', { now: true }, "Parameter 'now' is unexpected"],
    ['migrate-set-capabilities', {}, "Parameter 'capabilities' is missing"],
    [
      'migrate-set-capabilities',
      { capabilities: {} },
      "Invalid parameter type for 'capabilities', expected: array",
    ],
    [
      'migrate-set-capabilities',
      { capabilities: [5] },
      "Invalid parameter type for 'capabilities[0]', expected: object",
    ],
    [
      'migrate-set-capabilities',
      { capabilities: [{ capability: 'events', state: 1 }] },
      "Invalid parameter type for 'capabilities[0].state', expected: boolean",
    ],
    [
      'migrate-set-capabilities',
      { capabilities: [{ capability: 'x', state: true }] },
      "Parameter 'capability' does not accept value 'x'",
    ],
    ['migrate-set-parameters', { 'max-bandwidth': -1 }, "Parameter 'max-bandwidth' expects uint64"],
    [
      'migrate-set-parameters',
      { 'max-bandwidth': 0.5 },
      "Parameter 'max-bandwidth' expects uint64",
    ],
    [
      'migrate-set-parameters',
      { 'max-bandwidth': '1' },
      "Parameter 'max-bandwidth' expects uint64",
    ],
    [
      'migrate-set-parameters',
      { 'tls-creds': 1 },
      "Invalid parameter type for 'tls-creds', expected: string",
    ],
    ['migrate-set-parameters', { other: 1 }, "Parameter 'other' is unexpected"],
    ['migrate-set-parameters', { constructor: 1 }, "Parameter 'constructor' is unexpected"],
  ]
  for (const [execute, args, desc] of bad) {
    it(`reject ${execute} ${JSON.stringify(args)}, and do nothing`, async () => {
      const calls: unknown[] = []
      const session = await negotiated(everything(calls))
      const said = await session.answer({ value: { execute, arguments: args } })
      assert.deepEqual(said, { error: { class: 'GenericError', desc } })
      assert.deepEqual(calls, [])
    })
  }
})
