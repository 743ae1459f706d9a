import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cleanups } from '../support/cleanup.js'
import { golden } from '../stream/golden.js'
import { runInside } from './inside.js'
import { Cli, MAIN, temporaryFolder } from './support.js'

/**
 * Runs a command in a shell, as `"$@"`.
 *
 * @returns its status and stderr, and the output of the shell
 */
async function shell(script: string, args: readonly string[]) {
  const child = spawn('bash', ['-c', script, 'bash', process.execPath, MAIN, ...args])
  cleanups.add(() => child.kill('SIGKILL'))
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  child.stdin.end()
  const [status] = (await once(child, 'close')) as [number | null]
  return { status, stdout, stderr }
}

describe('the output of a command', () => {
  it('is complete in a pipe with a slow reader', async () => {
    const { stdout } = await shell('"$@" | (sleep 1; cat)', ['lab', 'list', '--json'])
    const { experiments } = JSON.parse(stdout) as { experiments: unknown[] }
    assert(experiments.length > 10 && stdout.length > 65_536)
  })

  it('is complete in a pipe as plain text, too', async () => {
    const { stdout } = await shell('"$@" | (sleep 1; cat)', ['lab', 'list'])
    assert.match(stdout, /\d+ experiments\n$/)
  })

  const commands: readonly (readonly string[])[] = [
    ['--help'],
    ['doctor'],
    ['doctor', '--json'],
    ['lab', 'list'],
    ['lab', 'run', 'api-handshake', '--json', '--quiet'],
    ['lab', 'compare', 'DOCUMENT', 'DOCUMENT'],
    ['lab', 'report', '--input', 'DOCUMENT', '--output', 'PAGE'],
    ['inspect', 'STREAM'],
    ['park', '--from', 'STREAM', '--to', 'VM'],
    ['guest', '--ram', '8M', '--json'],
    ['demo', '--ram', '16M', '--postcopy-after', 'now'],
  ]
  for (const command of commands) {
    it(`that cannot be written fails ${command.join(' ')}`, async () => {
      const folder = await temporaryFolder()
      const document = join(folder, 'document')
      const stream = join(folder, 'stream')
      writeFileSync(document, EMPTY_DOCUMENT)
      writeFileSync(stream, golden('precopy'))
      const names = new Map([
        ['DOCUMENT', document],
        ['STREAM', stream],
        ['VM', join(folder, 'vm')],
        ['PAGE', join(folder, 'page.html')],
      ])
      const args = command.map((word) => names.get(word) ?? word)
      const { status, stderr } = await shell('"$@" > /dev/full', args)
      assert.equal(status, 1, stderr)
      assert.match(stderr, /^postcopy: cannot write to standard output: ENOSPC.*\[ENOSPC\]$/m)
      assert.doesNotMatch(stderr, /^\s+at /m)
    })
  }

  it('that is written in part fails', async () => {
    const file = join(await temporaryFolder(), 'list')
    const script = `ulimit -f 16; "$@" > ${file}`
    const { status, stderr } = await shell(script, ['lab', 'list'])
    assert.equal(status, 1, stderr)
    assert.match(stderr, /EFBIG/)
    assert(readFileSync(file).length > 0)
  })

  for (const args of [['doctor'], ['demo', '--ram', '16M', '--postcopy-after', 'now']]) {
    it(`without a reader ends ${args.join(' ')} as SIGPIPE does, without a message`, async () => {
      const cli = new Cli(args)
      cli.child.stdout?.destroy()
      const { status, stderr } = await cli.ended
      assert.equal(status, 128 + 13, stderr)
      assert.doesNotMatch(stderr, /EPIPE|^\s+at /m)
    })
  }

  it('is written to a file unchanged', async () => {
    const file = join(await temporaryFolder(), 'list')
    const fd = openSync(file, 'w')
    const child = spawn(process.execPath, [MAIN, 'lab', 'list', '--json'], {
      stdio: ['ignore', fd, 'ignore'],
    })
    closeSync(fd)
    assert.deepEqual(await once(child, 'close'), [0, null])
    assert.equal(readFileSync(file, 'utf8'), (await runInside(['lab', 'list', '--json'])).stdout)
  })
})

const EMPTY_DOCUMENT = JSON.stringify({
  format: 'postcopy-lab',
  version: 1,
  startedAt: '2026-01-01T00:00:00.000Z',
  durationMs: 1,
  fingerprint: { kernel: '6.1.0', user: 'root' },
  counts: { 'as expected': 0, differs: 0, 'not possible here': 0, broken: 0 },
  rows: [],
})
