/** `resume --qemu-log`: a refusal is explained by what QEMU wrote to its standard error. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { QemuLog } from '../../src/cli/qemu-log.js'
import { parkBytes } from '../park/support.js'
import { cleanups } from '../support/cleanup.js'
import { golden } from '../stream/golden.js'
import { runInside } from './inside.js'
import { temporaryFolder } from './support.js'

const MISSING_CPU =
  "qemu-system-x86_64: Unknown savevm section or instance 'cpu_common' 1. Make sure\n"
const OTHER_RAM =
  'qemu-system-x86_64: Size mismatch: pc.ram: 0x4000000 != 0x6000000: Invalid argument\n'

/** Reads the first bytes of a VM, writes the error, and closes; newer versions close first. */
async function refusingQemu(
  lastWords: () => void,
  order: 'writes first' | 'closes first' = 'writes first',
): Promise<string> {
  const path = join(await temporaryFolder(), 'qemu')
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', () => {
      if (order === 'closes first') {
        // Long enough for resume to see the end of the connection.
        const timer = setTimeout(lastWords, 150)
        cleanups.add(() => {
          clearTimeout(timer)
        })
      } else {
        lastWords()
      }
      socket.destroy()
    })
  })
  server.listen(path)
  await once(server, 'listening')
  cleanups.add(() => server.close())
  return `unix:${path}`
}

async function refuse(
  log: string,
  ...[lastWords = () => undefined, order]: Partial<Parameters<typeof refusingQemu>>
): Promise<string> {
  const { directory } = await parkBytes(golden('precopy'))
  const uri = await refusingQemu(lastWords, order)
  const { status, stderr } = await runInside(['resume', directory, uri, '--qemu-log', log])
  assert.equal(status, 1, stderr)
  assert.match(stderr, /\n +It takes a "pc-/, 'it was refused')
  return stderr
}

describe('resume --qemu-log', () => {
  it('explains the difference from the last lines of QEMU, not from those of an earlier run', async () => {
    const log = join(await temporaryFolder(), 'log')
    writeFileSync(log, MISSING_CPU)
    const stderr = await refuse(log, () => appendFileSync(log, OTHER_RAM))
    assert.match(stderr, /RAM block "pc\.ram" has 64\.0 MiB here and 96\.0 MiB there: -m,/)
    assert.doesNotMatch(stderr, /cpu_common|-smp has to be/)
  })

  it('explains a missing section footer by -smp maxcpus', async () => {
    const log = join(await temporaryFolder(), 'log')
    const words = 'qemu-system-x86_64: Missing section footer for 0000:00:01.3/piix4_pm\n'
    const stderr = await refuse(log, () => writeFileSync(log, words))
    assert.match(stderr, /"0000:00:01\.3\/piix4_pm" has another length there: .*maxcpus=/)
  })

  it('waits for the last lines of a QEMU that closes its connections first', async () => {
    const log = join(await temporaryFolder(), 'log')
    writeFileSync(log, MISSING_CPU)
    const stderr = await refuse(log, () => appendFileSync(log, OTHER_RAM), 'closes first')
    assert.match(stderr, /RAM block "pc\.ram" has 64\.0 MiB here and 96\.0 MiB there: -m,/)
  })

  it('waits for the end of a line', async () => {
    const file = join(await temporaryFolder(), 'log')
    writeFileSync(file, 'earlier\n')
    const log = new QemuLog(file)
    appendFileSync(file, OTHER_RAM.slice(0, 20))
    const reading = log.read((text) => assert.fail(text))
    appendFileSync(file, OTHER_RAM.slice(20))
    assert.equal(await reading, OTHER_RAM)
  })

  it('shows a few unknown lines, made printable', async () => {
    const log = join(await temporaryFolder(), 'log')
    const words = `${'first\n'.repeat(100_000)}last \x1b[31mwords\n`
    const stderr = await refuse(log, () => writeFileSync(log, words))
    assert.match(
      stderr,
      /The last lines of QEMU's output:(\n +first){4}\n +last \\x1b\[31mwords \[ERR_/,
    )
  })

  it('reports the refusal if the file is a FIFO or missing', async () => {
    const folder = await temporaryFolder()
    execFileSync('mkfifo', [join(folder, 'fifo')])
    const fifo = await refuse(join(folder, 'fifo'))
    assert.match(fifo, /--qemu-log cannot be read: .* is not a regular file \[ERR_FILE_KIND\]/)
    const missing = await refuse(join(folder, 'missing'))
    assert.match(missing, /--qemu-log cannot be read: .* no such file \[ENOENT\]/)
  })

  it('is refused for several URIs', async () => {
    const args = ['resume', 'vm', 'unix:a', 'unix:b', '--qemu-log', 'log']
    const { status, stderr } = await runInside(args)
    assert.equal(status, 1)
    assert.equal(stderr, 'postcopy: --qemu-log works with a single URI only [ERR_USAGE]\n')
  })
})
