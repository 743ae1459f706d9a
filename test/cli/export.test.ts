import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { runProgram } from '../../src/testing/run-program.js'
import { sharedVm, sparseStream } from '../park/export-support.js'
import { golden } from '../stream/golden.js'
import { runInside } from './inside.js'
import { Cli, MAIN } from './support.js'

const XML = `<domain type='kvm'><name>t</name><uuid>a3c7a881-f94a-4390-8f4a-d2bd605bbe29</uuid></domain>`

describe('postcopy export', () => {
  const shared = sharedVm(golden('precopy'))

  it('writes each format, and prints sizes and time', async () => {
    const { folder, directory } = await shared.open()
    writeFileSync(join(folder, 'xml'), XML)
    const formats = [
      ['stream', []],
      ['mapped-ram', []],
      ['libvirt', ['--xml', join(folder, 'xml')]],
    ] as const
    for (const [format, more] of formats) {
      const file = join(folder, format)
      const said = await runInside(['export', directory, file, '--format', format, ...more])
      assert.deepEqual([said.status, said.stderr], [0, ''])
      assert(said.stdout.startsWith(`exported to ${file}, format ${format}: `), said.stdout)
      assert.match(
        said.stdout,
        /: [\d.]+ [KM]iB \([\d.]+ KiB on disk\) for 16.3 MiB of RAM, [\d.]+ KiB of it not zero, in [\d.]+ s\n$/,
      )
    }
    const image = readFileSync(join(folder, 'libvirt'))
    assert(image.subarray(92).toString('latin1').startsWith(XML))
    const again = await runInside([
      'export',
      directory,
      join(folder, 'stream'),
      '--json',
      '--force',
    ])
    const report = JSON.parse(again.stdout) as Record<string, unknown>
    assert.equal(report['format'], 'stream')
    assert.equal(report['lengthBytes'], readFileSync(join(folder, 'stream')).length)
  })

  it('writes a stream to standard output, and its result to standard error', async () => {
    const { folder, directory } = await shared.open()
    const out = join(folder, 'out')
    const args = [process.execPath, MAIN, 'export', directory, '-']
    const script = `"$@" | cat > ${out}`
    const end = await runProgram(['sh', '-c', script, 'sh', ...args], { timeoutMs: 60_000 })
    assert.deepEqual([end.status, end.stdout], [0, ''])
    assert.match(end.stderr, /^postcopy: exported to standard output, format stream: /)
    await runInside(['export', directory, join(folder, 'file')])
    assert(readFileSync(out).equals(readFileSync(join(folder, 'file'))))
  })

  it('ends with status 141 and without a message if its reader ends', async () => {
    const { directory } = await shared.open()
    const args = [process.execPath, MAIN, 'export', directory, '-']
    const script = '{ "$@"; echo "status $?" >&2; } | true'
    const end = await runProgram(['sh', '-c', script, 'sh', ...args], { timeoutMs: 60_000 })
    assert.equal(end.stderr, 'status 141\n')
  })

  it('refuses an incomplete VM with the command that continues it', async () => {
    const { folder, directory } = await shared.copy()
    const path = join(directory, 'manifest.json')
    writeFileSync(path, readFileSync(path, 'utf8').replace('"complete"', '"incomplete"'))
    const { status, stderr } = await runInside(['export', directory, join(folder, 'file')])
    assert.equal(status, 1)
    assert.match(stderr, /postcopy park URI --recover .*\/vm.*\[ERR_PARKED_INCOMPLETE\]/)
    assert(!readdirSync(folder).includes('file'))
  })

  const refused: readonly (readonly [readonly string[], RegExp])[] = [
    [['-', '--json'], /--json needs a file.*\[ERR_USAGE\]/],
    [['-', '--format', 'mapped-ram'], /needs a file.*\[ERR_INVALID_OPTION\]/],
    [['FILE', '--format', 'raw'], /'raw' is invalid.*stream, mapped-ram, libvirt.*\[ERR_USAGE\]/],
    [['FILE', '--xml', 'XML'], /--xml is for the format libvirt.*\[ERR_USAGE\]/],
    [['FILE', '--format', 'libvirt'], /needs the domain XML.*--xml.*\[ERR_DOMAIN_XML\]/],
    [['FILE', '--format', 'libvirt', '--xml', 'NONE'], /NONE: no such file.*\[ENOENT\]/],
  ]
  for (const [args, pattern] of refused) {
    it(`refuses ${args.join(' ')}`, async () => {
      const { folder, directory } = await shared.open()
      const paths = args.map((arg) => (/^[A-Z]+$/.test(arg) ? join(folder, arg) : arg))
      const { status, stderr, stdout } = await runInside(['export', directory, ...paths])
      assert.deepEqual([status, stdout], [1, ''])
      assert.match(stderr, pattern)
      assert(!readdirSync(folder).some((name) => name.startsWith('FILE')))
    })
  }
})

describe('postcopy export of much RAM', () => {
  // 604 MB of records for zero pages.
  const shared = sharedVm(sparseStream({ 'pc.ram': { lengthBytes: 2 ** 38, pages: [] } }))

  it('leaves nothing when a signal ends it', async () => {
    const { folder, directory } = await shared.open()
    const cli = new Cli(['export', directory, join(folder, 'file')])
    while (readdirSync(folder).length === 0) await sleep(2)
    cli.child.kill('SIGTERM')
    const { status, stdout, stderr } = await cli.ended
    assert.deepEqual([status, stdout, stderr], [143, '', 'postcopy: ended by SIGTERM\n'])
    assert.deepEqual(readdirSync(folder), [])
  })
})
