import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { runInside } from './inside.js'
import { runCli } from './support.js'

interface DoctorObject {
  possible: boolean
  status: string
  kernel: string
  facts: { id: string; title: string; status: string; found: string; enables: string }[]
}

describe('the command line', () => {
  const refused: readonly (readonly [readonly string[], RegExp])[] = [
    [['dcotor'], /unknown command 'dcotor' \(Did you mean doctor\?\)/],
    [['demo', '--rma', '64M'], /unknown option '--rma' \(Did you mean --ram\?\)/],
    [['demo', '--ram', 'much'], /option '--ram <size>': "much" is not a size: .*256M/],
    [['demo', '--memory', 'paper'], /'paper' is invalid.*anon, memfd, hugetlb/],
    [['demo', '--vcpus', '0'], /whole number from 1/],
    [['demo', '--workload', 'sleep'], /unknown workload "sleep"/],
    [['demo', '--postcopy-after', 'later'], /milliseconds, now or never/],
    [['guest', '--incoming', 'udp:1'], /not a migration URI/],
    [['guest', '--monitor', 'tcp:127.0.0.1:1'], /give stdio, unix:PATH or none/],
    [['guest', '--monitor', 'unix:'], /"unix:" is not a monitor address: the path is empty/],
    [
      ['guest', '--monitor', `unix:/${'long/'.repeat(30)}`],
      /is not a monitor address: the path has 151 bytes, .* at most 107/,
    ],
    [
      ['guest', '--qmp', 'stdio'],
      /option '--qmp <where>': "stdio" is not a QMP address: give tcp:HOST:PORT/,
    ],
    [['guest', '--qmp', 'unix:'], /"unix:" is not a QMP address: the path is empty/],
    [['guest', '--incoming', 'unix:'], /"unix:" is not a migration URI: the path is empty/],
    [['guest', '--capability', 'postcopy'], /no capability "postcopy"/],
    [['guest', 'again'], /too many arguments/],
    [['park', 'udp:1'], /argument 'uri': "udp:1" is not a migration URI: give/],
    [['resume', 'vm', 'udp:1'], /argument 'uri': "udp:1" is not a migration URI: give/],
    [['resume', 'vm', 'unix:x', '--page-size', 'a=b'], /'--page-size <block=size>'.*"b" is not a/],
  ]
  for (const [args, pattern] of refused) {
    it(`refuses ${args.join(' ')}`, async () => {
      const { status, stdout, stderr } = await runInside(args)
      assert.equal(status, 1)
      assert.equal(stdout, '')
      assert.match(stderr, pattern)
      assert.match(stderr, /^postcopy: .* \[ERR_USAGE\]; see postcopy.* --help\n$/)
    })
  }

  const nested: readonly (readonly [readonly string[], string])[] = [
    [['lab', 'run', '--without', 'nope'], 'lab run'],
    [['lab', 'report', '--nope'], 'lab report'],
    [['lab', 'nope'], 'lab'],
    [['park', '--nope'], 'park'],
    [['--nope'], ''],
  ]
  for (const [args, command] of nested) {
    it(`refers to the help of that command: ${args.join(' ')}`, async () => {
      const { stderr } = await runInside(args)
      const [, named] = /; see postcopy ?(.*?) ?--help\n$/.exec(stderr) ?? []
      assert.equal(named, command, stderr)
    })
  }

  it('names a rejected value once', async () => {
    const path = `unix:/${'long/'.repeat(30)}`
    const cases = [
      ['park', path, '--to', 'vm'],
      ['resume', 'vm', path],
      ['guest', '--qmp', path],
      ['guest', '--incoming', path],
      ['guest', '--monitor', path],
      ['guest', '--capability', 'no-such-name'],
      ['guest', '--workload', 'no-such-name'],
      ['guest', '--ram', 'no-such-name'],
    ]
    for (const args of cases) {
      const { status, stderr } = await runInside(args)
      assert.equal(status, 1)
      assert.equal(stderr.split(/unix:\/long|no-such-name/).length, 2, stderr)
    }
  })

  for (const option of ['--version', '-V']) {
    it(`prints the version of the package for ${option}`, async () => {
      const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')
      const { version } = JSON.parse(text) as { version: string }
      const { status, stdout, stderr } = await runCli([option])
      assert.deepEqual(
        { status, stdout, stderr },
        { status: 0, stdout: `${version}\n`, stderr: '' },
      )
    })
  }

  it('refuses --qmp-tcp-insecure without --qmp', async () => {
    const { status, stderr } = await runCli(['guest', '--qmp-tcp-insecure'])
    assert.equal(status, 1)
    assert.equal(stderr, 'postcopy: --qmp-tcp-insecure needs --qmp [ERR_USAGE]\n')
  })

  it('refuses a guest without a monitor and without QMP', async () => {
    const { status, stderr } = await runInside(['guest', '--monitor', 'none'])
    assert.equal(status, 1)
    assert.equal(stderr, 'postcopy: --monitor none needs --qmp [ERR_INVALID_MONITOR]\n')
  })

  it('reports an error in one line, with a code and without a stack', async () => {
    const { status, stderr } = await runCli(['guest', '--ram', '4097'])
    assert.equal(status, 1)
    assert.match(stderr, /^postcopy: [^\n]* \[ERR_INVALID_\w+\]\n$/)
  })

  for (const command of [[], ['guest'], ['demo'], ['doctor']]) {
    it(`explains ${['postcopy', ...command].join(' ')}`, async () => {
      const { status, stdout } = await runInside([...command, '--help'])
      assert.equal(status, 0)
      assert.match(stdout, /^Usage: postcopy/)
    })
  }
})

describe('postcopy doctor', () => {
  it('lists what each feature enables, and whether a migration is possible', async () => {
    const { status, stdout } = await runCli(['doctor', '--json'])
    const report = JSON.parse(stdout) as DoctorObject
    assert.equal(status, report.possible ? 0 : 1)
    assert.equal(report.possible, report.status !== 'missing')
    assert(report.facts.length > 10)
    for (const fact of report.facts) {
      assert(['ok', 'limited', 'missing'].includes(fact.status), fact.id)
      for (const text of [fact.title, fact.found, fact.enables]) assert(text.length > 0, fact.id)
    }
  })

  it('marks each feature by a word and a symbol', async () => {
    const { stdout } = await runInside(['doctor'])
    assert.match(
      stdout,
      /✔ ok .*Page faults of this process|! limited .*Page faults of this process/,
    )
    assert.match(stdout, /Postcopy (works|does not work) here/)
  })
})
