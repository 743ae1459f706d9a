/** `park --qemu` and `resume --start` with a real QEMU: one command instead of three terminals. */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { isAlive, MAIN, runCli, temporaryFolder } from '../../cli/support.js'
import { checkUnchanged } from '../../../src/qemu/disks.js'
import { readOrigin } from '../../../src/qemu/origin-file.js'
import { cleanups } from '../../support/cleanup.js'
import { QmpClient } from '../../support/qmp-client.js'
import { requires } from '../../support/requires.js'
import { linuxGuestWithDisk } from './linux.js'

const README = fileURLToPath(new URL('../../../../README.md', import.meta.url))

interface Started {
  status: string
  qemu: { pid: number; qmp: string; reach: Record<string, string>; disks: string[] }
}

/** Ends a QEMU that the command has left running. @param qmp - in the folder that it made for it */
function endLater(pid: number, qmp?: string): void {
  cleanups.add(() => {
    if (isAlive(pid)) process.kill(pid, 'SIGKILL')
    if (qmp !== undefined) rmSync(dirname(qmp.replace('unix:', '')), { recursive: true })
  })
}

async function status(qmp: string): Promise<unknown> {
  const client = await QmpClient.connect({ path: qmp.replace('unix:', '') })
  const answer = (await client.execute('query-status')) as { status: string }
  client.close()
  return answer.status
}

/** The serial port of a guest on a unix socket. */
class Console {
  text = ''
  readonly #socket

  constructor(path: string) {
    this.#socket = connect(path)
    this.#socket.on('error', () => undefined)
    this.#socket.setEncoding('latin1').on('data', (text: string) => {
      this.text += text
    })
    cleanups.add(() => {
      this.#socket.destroy()
    })
  }

  type(line: string): void {
    this.#socket.write(`${line}\n`)
  }

  async says(pattern: RegExp): Promise<void> {
    for (const deadline = Date.now() + 60_000; !pattern.test(this.text);) {
      if (Date.now() > deadline) throw new Error(`never ${String(pattern)}: ${this.text}`)
      await sleep(20)
    }
  }
}

/** Parks a snapshot; its disk stays, although the guest continues and writes. */
async function snapshotKeepsDisk(
  qmp: string,
  guest: Console,
  folder: string,
  disk: string,
): Promise<void> {
  const options = ['--keep-running', '--snapshot-disks', '--after', 'never']
  const { status, stdout, stderr } = await runCli([
    ...['park', '--qemu', qmp, '--to', join(folder, 'snapshot'), ...options],
  ])
  assert.equal(status, 0, stderr)
  assert.match(stdout, /the guest continues in its QEMU/)
  const before = readFileSync(disk)
  assert.match(before.toString('latin1', 0, 16), /^original /)
  guest.type('later')
  await guest.says(/disk: later/)
  assert.deepEqual(readFileSync(disk), before)
  const [recorded] = readOrigin(join(folder, 'snapshot'), {})?.disks ?? []
  assert.equal(recorded?.state?.path, disk)
  checkUnchanged(recorded.state)
}

describe('one command instead of three terminals', function () {
  this.timeout(180_000)
  before(function () {
    requires(this, 'qemuPostcopy')
  })

  it('parks and resumes as in the README', async () => {
    const folder = await temporaryFolder()
    const [, example] =
      /## Park a running QEMU.*?```sh\n(.*?)```/s.exec(readFileSync(README, 'utf8')) ?? []
    assert(example !== undefined)
    const lines = example.trimEnd().split('\n')
    assert.equal(lines.length, 4, 'four lines in one terminal')
    const script = example
      .replaceAll('npx postcopy', `"${process.execPath}" "${MAIN}"`)
      // The zero pages of the other memory only take time.
      .replace('-m 512', '-m 32')
    const { stdout, stderr } = await promisify(execFile)('sh', ['-e', '-c', script], {
      cwd: folder,
    })
    assert.match(stdout, /^parked in my-vm: .*\nits QEMU has ended\n/)
    const found = [...stdout.matchAll(/^QEMU (\d+): QMP (\S+), /gm)]
    for (const [, pid, qmp] of found) endLater(Number(pid), qmp)
    assert.equal(found.length, 4, stdout + stderr)
    for (const [, pid, qmp = ''] of found) {
      assert(isAlive(Number(pid)))
      assert.equal(await status(qmp), 'running')
    }
    const origin = readOrigin(join(folder, 'my-vm'), {})
    assert.equal(origin?.launch?.directory, folder)
  })

  it('clones a Linux guest three times, and each writes to its own disk', async function () {
    requires(this, 'linuxGuest')
    const folder = await temporaryFolder()
    const disk = join(folder, 'a "disk", raw')
    writeFileSync(disk, '')
    truncateSync(disk, 2 ** 20)
    const file = disk.replaceAll(',', ',,')
    const args = [
      ...['-accel', 'tcg', '-nodefaults', '-display', 'none', '-machine', 'pc', '-m', '128'],
      ...['-qmp', 'unix:qmp,server=on,wait=off', '-serial', 'unix:serial,server=on,wait=off'],
      ...['-drive', `file=${file},format=raw,if=virtio`, ...linuxGuestWithDisk(folder)],
    ]
    const source = spawn('qemu-system-x86_64', args, { cwd: folder, stdio: 'ignore' })
    endLater(source.pid ?? 0)
    while (!existsSync(join(folder, 'serial'))) await sleep(20)
    const original = new Console(join(folder, 'serial'))
    await original.says(/ready/)
    original.type('original')
    await original.says(/disk: original/)

    const qmp = `unix:${join(folder, 'qmp')}`
    await snapshotKeepsDisk(qmp, original, folder, disk)

    const vm = join(folder, 'vm')
    const parked = await runCli(['park', '--qemu', qmp, '--to', vm, '--after', '100', '--quit'])
    assert.equal(parked.status, 0, parked.stderr)
    const before = readFileSync(disk)

    const same = await runCli(['inspect', vm, '--against'])
    assert.match(same.stdout, /^no difference/, same.stderr)
    const other = await runCli(['inspect', vm, '--against', '--', '-machine', 'pc', '-m', '64'])
    assert.match(other.stdout, /differs: -m, .*128 MiB in the VM, 64\.0 MiB in QEMU/)

    const disks = join(folder, 'disks')
    const resumed = await runCli([
      ...['resume', vm, '--start', '--count', '3', '--disks', disks, '--json'],
    ])
    assert.equal(resumed.status, 0, resumed.stderr)
    const clones = resumed.stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as Started).qemu)
    for (const { pid, qmp: socket } of clones) endLater(pid, socket)
    assert.equal(clones.length, 3)
    const consoles = clones.map(({ reach }) => {
      return new Console((reach['serial0'] ?? '').replace('unix:', ''))
    })
    for (const [index, one] of consoles.entries()) one.type(`clone ${index}`)
    for (const [index, one] of consoles.entries())
      await one.says(new RegExp(`disk: clone ${index}`))
    for (const [index, clone] of clones.entries()) {
      const [overlay = ''] = clone.disks
      const content = readFileSync(overlay, 'latin1')
      for (const other of [0, 1, 2]) {
        assert.equal(content.includes(`clone ${other} `), other === index, `${index}: ${other}`)
      }
    }
    assert.deepEqual(readFileSync(disk), before)
  })
})
