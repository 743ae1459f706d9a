/**
 * Files that a user names: a command that waits for the other end of a FIFO still
 * ends on a signal.
 */
import assert from 'node:assert/strict'
import { execFile, execFileSync, spawnSync } from 'node:child_process'
import {
  closeSync,
  constants,
  openSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { loadCatalogue } from '../../src/lab/catalogue.js'
import { select } from '../../src/lab/select.js'
import { makeDocument } from '../../src/lab/document.js'
import { readHost } from '../../src/host/host.js'
import { readRegularFile, readUserFile, writeUserFile } from '../../src/user-files.js'
import { cleanups } from '../support/cleanup.js'
import { golden } from '../stream/golden.js'
import { runInside } from './inside.js'
import { Cli, MAIN, runCli, temporaryFolder } from './support.js'

async function makeFifo(): Promise<string> {
  const fifo = join(await temporaryFolder(), 'fifo')
  execFileSync('mkfifo', [fifo])
  return fifo
}

/** Opens a FIFO for writing as soon as it has a reader, and writes nothing. */
async function openAfterReader(fifo: string, cli: Cli): Promise<void> {
  for (;;) {
    try {
      const fd = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK)
      cleanups.add(() => closeSync(fd))
      return
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error
      if (cli.child.exitCode !== null) throw new Error(`ended: ${cli.stderr}`, { cause: error })
      await sleep(20)
    }
  }
}

async function labDocument(): Promise<string> {
  const file = join(await temporaryFolder(), 'lab.json')
  writeFileSync(file, JSON.stringify(makeDocument(readHost().fingerprint, [], new Date())))
  return file
}

describe('a command that reads a FIFO with a silent writer', () => {
  for (const [title, args] of [
    ['inspect', ['inspect', 'FIFO']],
    ['lab report --input', ['lab', 'report', '--input', 'FIFO']],
    ['lab compare', ['lab', 'compare', 'FIFO', 'FIFO']],
  ] as const) {
    it(`ends at the first signal: ${title}`, async () => {
      const fifo = await makeFifo()
      const cli = new Cli(args.map((arg) => (arg === 'FIFO' ? fifo : arg)))
      await openAfterReader(fifo, cli)
      cli.child.kill('SIGINT')
      const { status, stderr } = await cli.ended
      assert.equal(status, 128 + 2, stderr)
    })
  }
})

describe('a command that writes to a FIFO without a reader', () => {
  for (const [title, args] of [
    ['demo --report', ['demo', '--ram', '8M', '--postcopy-after', 'now', '--report', 'FIFO']],
    ['lab report --output', ['lab', 'report', '--input', 'DOCUMENT', '--output', 'FIFO']],
  ] as const) {
    it(`ends at the first signal: ${title}`, async () => {
      const [fifo, document] = [await makeFifo(), await labDocument()]
      const given = new Map([
        ['FIFO', fifo],
        ['DOCUMENT', document],
      ])
      const cli = new Cli(args.map((arg) => given.get(arg) ?? arg))
      await cli.seen(/waiting for a reader of the FIFO/)
      cli.child.kill('SIGINT')
      const { status, stderr } = await cli.ended
      assert.equal(status, 128 + 2, stderr)
    })
  }

  it('writes the whole output to a reader that opens it later', async () => {
    const fifo = await makeFifo()
    const text = 'a line of text\n'.repeat(100_000)
    let isWaiting = (): void => undefined
    const waiting = new Promise<void>((resolve) => {
      isWaiting = resolve
    })
    const writing = writeUserFile(fifo, text, isWaiting)
    await waiting
    const read = await readUserFile(fifo, 10_000_000)
    await writing
    assert.equal(read.toString(), text)
  })
})

describe('a page that cannot be written', () => {
  const bench = fileURLToPath(new URL('../../src/bench/main.js', import.meta.url))
  const demo = ['demo', '--ram', '8M', '--postcopy-after', 'now', '--report']

  for (const [kind, code] of [
    ['a missing folder', 'ENOENT'],
    ['a directory', 'EISDIR'],
    ['a file as folder', 'ENOTDIR'],
  ] as const) {
    it(`is refused before anything runs if its path is ${kind}`, async () => {
      const folder = await temporaryFolder()
      writeFileSync(join(folder, 'file'), '')
      const names = { ENOENT: 'nodir/x.html', EISDIR: '', ENOTDIR: 'file/x.html' }
      const file = join(folder, names[code])
      const runs = [
        await runInside([...demo, file]),
        await runInside(['lab', 'report', '--output', file]),
        await promisify(execFile)(process.execPath, [
          bench,
          'push',
          '--quick',
          '--html',
          file,
        ]).then(
          (said) => ({ status: 0, ...said }),
          (error: unknown) => {
            const { code: status, ...said } = error as {
              code: number
              stdout: string
              stderr: string
            }
            return { status, ...said }
          },
        ),
      ]
      for (const { status, stdout, stderr } of runs) {
        assert.equal(status, 1, stdout)
        assert.equal(stdout, '')
        assert.equal(stderr, `postcopy: ${file}: it cannot be written (${code}) [${code}]\n`)
      }
      assert.deepEqual(readdirSync(folder), ['file'])
    })
  }

  it('does not affect the printed result of a demo if the disk is full', async () => {
    const { status, stdout, stderr } = await runCli([...demo, '/dev/full'])
    assert.equal(status, 1)
    assert.match(stdout, /✔/)
    assert.doesNotMatch(stdout, /report:/)
    assert.match(stderr, /\/dev\/full: it cannot be written \(ENOSPC\) \[ENOSPC\]\n$/)
  })

  it('does not affect the JSON object of a demo with --json', async () => {
    const { status, stdout } = await runCli([...demo, '/dev/full', '--json'])
    assert.equal(status, 1)
    const [line = '', ...more] = stdout.trim().split('\n')
    assert.deepEqual(more, [])
    assert.equal((JSON.parse(line) as { verified: boolean }).verified, true)
  })

  it('does not affect the printed result of a lab run if the disk is full', async () => {
    const { experiments } = await select(await loadCatalogue(), [])
    const id = experiments[0]?.id ?? ''
    const args = ['lab', 'report', id, '--quiet', '--output', '/dev/full']
    const { status, stdout, stderr } = await runInside(args)
    assert.equal(status, 1)
    assert.match(stderr, /ENOSPC/)
    assert(stdout.includes(id), stdout)
    assert.doesNotMatch(stdout, /wrote/)
  })
})

describe('a file that must be a regular file', () => {
  it('is refused in the lab if it is a FIFO', async () => {
    const fifo = await makeFifo()
    const { status, stderr } = await runInside(['lab', 'run', fifo])
    assert.equal(status, 1)
    assert.match(stderr, /is not a regular file \[ERR_LAB_UNKNOWN\]/)
  })

  it('is refused in a directory of credentials if it is a FIFO', async () => {
    const folder = await temporaryFolder()
    execFileSync('mkfifo', [join(folder, 'ca-cert.pem')])
    const to = join(folder, 'vm')
    const args = ['park', 'tcp:127.0.0.1:0', '--to', to, '--tls-creds', folder]
    const { status, stderr } = await runInside(args)
    assert.equal(status, 1)
    assert.match(stderr, /ca-cert\.pem.* \[ERR_TLS_CREDENTIALS\]/)
  })
})

describe('a file that cannot be accessed or read', () => {
  async function makeLoop(name: string): Promise<string> {
    const loop = join(await temporaryFolder(), name)
    symlinkSync(name, loop)
    return loop
  }

  for (const [title, args, pattern] of [
    ['inspect', ['inspect', 'FILE'], /file\.mjs: it cannot be opened \(ELOOP\) \[ELOOP\]/],
    ['lab run', ['lab', 'run', 'FILE'], /file\.mjs.*ELOOP.* \[ERR_LAB_UNKNOWN\]/],
    [
      'resume --qemu-log',
      ['resume', 'vm', 'unix:a', '--qemu-log', 'FILE'],
      /file\.mjs: it cannot be opened \(ELOOP\) \[ELOOP\]/,
    ],
  ] as const) {
    it(`is named with the reason by ${title}`, async () => {
      const loop = await makeLoop('file.mjs')
      const { status, stderr } = await runInside(args.map((arg) => (arg === 'FILE' ? loop : arg)))
      assert.equal(status, 1)
      assert.match(stderr, pattern)
    })
  }

  it('is named if the kernel cannot read it', async () => {
    // Address 0 of this process is not mapped.
    await assert.rejects(readUserFile('/proc/self/mem', 2 ** 20), {
      code: 'EIO',
      message: '/proc/self/mem: it cannot be read (EIO)',
    })
  })

  it('is named if it is a small file that cannot be read', () => {
    // The loopback interface has no speed: open(2) succeeds, but read(2) fails.
    const file = '/sys/class/net/lo/speed'
    assert.throws(() => readRegularFile(file, 2 ** 20), {
      code: 'EINVAL',
      message: `${file}: it cannot be read (EINVAL)`,
    })
  })
})

describe('pipes of the shell', () => {
  /** At the deadline, timeout(1) kills the process group: bash and its children. */
  const shell = (script: string, ...args: string[]) => {
    const command = ['--signal=KILL', '50', 'bash', '-c', script, process.execPath, MAIN, ...args]
    return spawnSync('timeout', command, { encoding: 'utf8' })
  }

  it('are read by lab compare and written by lab report', async () => {
    const [document, folder] = [await labDocument(), await temporaryFolder()]
    const compared = shell('"$0" "$1" lab compare <(cat "$2") <(cat "$2")', document)
    assert.equal(compared.status, 0, compared.stderr)
    const page = join(folder, 'page.html')
    const script =
      'set -o pipefail; "$0" "$1" lab report --input <(cat "$2") --output /dev/fd/3 3>&1 >/dev/null | cat > "$3"'
    const reported = shell(script, document, page)
    assert.equal(reported.status, 0, reported.stderr)
    assert.match(readFileSync(page, 'utf8'), /<\/html>\s*$/)
  })

  it('are written by process substitution', async () => {
    const [document, folder] = [await labDocument(), await temporaryFolder()]
    const page = join(folder, 'page.html')
    execFileSync('mkfifo', [`${page}.done`])
    const script =
      '"$0" "$1" lab report --input "$2" --output >(cat > "$3"; echo done > "$3.done") && cat "$3.done"'
    const { status, stderr } = shell(script, document, page)
    assert.equal(status, 0, stderr)
    assert.match(readFileSync(page, 'utf8'), /<\/html>\s*$/)
  })

  it('are read by inspect', async () => {
    const stream = join(await temporaryFolder(), 'stream')
    writeFileSync(stream, golden('precopy'))
    const { status, stderr } = shell('"$0" "$1" inspect <(cat "$2")', stream)
    assert.equal(status, 0, stderr)
  })

  it('are written through standard output, and so are devices', async () => {
    const [document, folder] = [await labDocument(), await temporaryFolder()]
    const page = join(folder, 'page.html')
    const report = '"$0" "$1" lab report --input "$2" --output'
    const write = (device: string) =>
      runInside(['lab', 'report', '--input', document, '--output', device])
    assert.equal((await write('/dev/null')).status, 0)
    const full = await write('/dev/full')
    assert.equal(full.status, 1)
    assert.match(full.stderr, /\/dev\/full: it cannot be written \(ENOSPC\) \[ENOSPC\]/)
    const piped = shell(`${report} /dev/stdout | cat > "$3"`, document, page)
    assert.equal(piped.status, 0, piped.stderr)
    assert.match(readFileSync(page, 'utf8'), /<\/html>/)
  })
})
