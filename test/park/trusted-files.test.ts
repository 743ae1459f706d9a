/** Files that another user or program has placed in the directory of a parked VM. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { Park, ParkedVm, type ParkOptions, WorkingSet } from '../../src/park/index.js'
import { runInside } from '../cli/inside.js'
import { Cli, runCli, temporaryFolder } from '../cli/support.js'
import { golden } from '../stream/golden.js'
import { cleanups } from '../support/cleanup.js'
import { requires } from '../support/requires.js'
import { parkBytes, settled } from './support.js'

const STRANGER = 12_345
const untrusted = { code: 'ERR_PARKED_UNTRUSTED' }

/** `DIR.incomplete` of a postcopy that broke off. */
async function incomplete(): Promise<{ folder: string; path: string }> {
  const { folder, directory } = await parkBytes(golden('postcopy-source'))
  return { folder, path: `${directory}.incomplete` }
}

async function complete(): Promise<{ folder: string; directory: string }> {
  const { folder, directory } = await parkBytes(golden('precopy'))
  return { folder, directory }
}

async function recover(path: string, options: Partial<ParkOptions> = {}): Promise<Park> {
  const park = await Park.recover({ uri: 'tcp:127.0.0.1:0', directory: path, ...options })
  cleanups.add(() => park.close())
  return park
}

/** A file outside the directory that belongs to the user who runs this. */
function victimOf(file: string, folder: string): string {
  const victim = join(folder, 'victim')
  cpSync(file, victim)
  return victim
}

describe('a recovery of a directory that another user has prepared', () => {
  it('does not follow a link in place of RAM', async () => {
    const { folder, path } = await incomplete()
    const ram = join(path, 'ram-0')
    const victim = victimOf(ram, folder)
    writeFileSync(victim, readFileSync(victim).fill(7))
    const before = readFileSync(victim)
    rmSync(ram)
    symlinkSync(victim, ram)
    await assert.rejects(recover(path), untrusted)
    assert(readFileSync(victim).equals(before))
  })

  it('does not write through links in place of files that it creates', async () => {
    const { folder, path } = await incomplete()
    const victim = join(folder, 'victim')
    writeFileSync(victim, 'secret')
    const names = ['configuration', 'devices', 'manifest.json', 'received-0']
    for (const name of names) symlinkSync(victim, join(path, `${name}.new`))
    const park = await recover(path)
    park.stop()
    await settled(park)
    assert.equal(readFileSync(victim, 'utf8'), 'secret')
  })

  it('does not write to a file with a second hard link', async () => {
    const { folder, path } = await incomplete()
    linkSync(join(path, 'ram-0'), join(folder, 'second'))
    await assert.rejects(recover(path), { ...untrusted, message: /has 2 names/ })
  })

  it('refuses the directory of another user, unless allowForeignDirectory is set', async function () {
    requires(this, 'root')
    const { path } = await incomplete()
    chownSync(path, STRANGER, STRANGER)
    await assert.rejects(recover(path), { ...untrusted, message: /belongs to user 12345/ })
    const park = await recover(path, { allowForeignDirectory: true })
    park.stop()
    await settled(park)
  })

  it('refuses a directory that other users may write', async () => {
    const { path } = await incomplete()
    chmodSync(path, 0o770)
    await assert.rejects(recover(path), { ...untrusted, message: /other users may write/ })
  })

  it('refuses a parent directory that other users may write, unless it is sticky', async () => {
    const { folder, path } = await incomplete()
    chmodSync(folder, 0o777)
    await assert.rejects(recover(path), { ...untrusted, message: /other users may write/ })
    chmodSync(folder, 0o1777)
    const park = await recover(path)
    park.stop()
    await settled(park)
  })

  it('does not follow a link in place of the directory', async () => {
    const { folder, path } = await incomplete()
    renameSync(path, join(folder, 'elsewhere'))
    symlinkSync(join(folder, 'elsewhere'), path)
    await assert.rejects(recover(path), untrusted)
  })

  it('refuses the file of another user', async function () {
    requires(this, 'root')
    const { path } = await incomplete()
    chownSync(join(path, 'ram-0'), STRANGER, STRANGER)
    await assert.rejects(recover(path), { ...untrusted, message: /ram-0 belongs to user 12345/ })
  })
})

describe('opening a parked VM', () => {
  for (const name of ['ram-0', 'devices', 'configuration', 'manifest.json']) {
    it(`does not follow a link in place of ${name}`, async () => {
      const { folder, directory } = await complete()
      const file = join(directory, name)
      const secret = victimOf(file, folder)
      rmSync(file)
      symlinkSync(secret, file)
      assert.throws(() => ParkedVm.open(directory), { ...untrusted, message: /symbolic link/ })
    })
  }

  for (const name of ['ram-0', 'devices', 'manifest.json']) {
    it(`refuses a FIFO in place of ${name} at once`, async () => {
      const { directory } = await complete()
      const file = join(directory, name)
      rmSync(file)
      execFileSync('mkfifo', [file])
      const { status, stderr } = await runCli(['resume', directory, 'tcp:127.0.0.1:1'])
      assert.equal(status, 1)
      assert.match(stderr, new RegExp(`${name} is not a regular file`))
      assert.match(stderr, /ERR_PARKED_UNTRUSTED/)
    })
  }

  it('refuses the directory of another user, unless allowForeignDirectory is set', async function () {
    requires(this, 'root')
    const { directory } = await complete()
    for (const name of ['', ...readdirSync(directory)]) {
      chownSync(join(directory, name), STRANGER, STRANGER)
    }
    assert.throws(() => ParkedVm.open(directory), { ...untrusted, message: /user 12345/ })
    ParkedVm.open(directory, { allowForeignDirectory: true }).close()
    const refused = await runInside(['inspect', directory])
    assert.match(refused.stderr, /--allow-foreign-directory/)
    const taken = await runInside(['inspect', directory, '--allow-foreign-directory'])
    assert.equal(taken.status, 0, taken.stderr)
  })

  it('does not read a working set through a link, and replaces the link', async () => {
    const { folder, directory } = await complete()
    const vm = ParkedVm.open(directory)
    cleanups.add(() => vm.close())
    const victim = join(folder, 'victim')
    writeFileSync(victim, 'secret')
    symlinkSync(victim, join(directory, 'working-set'))
    assert.throws(() => WorkingSet.open(vm), untrusted)
    const workingSet = WorkingSet.open(vm, { onUnusable: () => undefined })
    workingSet.begin(vm).add(0, 0, 1)
    assert.equal(workingSet.save(), 1)
    assert.equal(readFileSync(victim, 'utf8'), 'secret')
    assert.equal(WorkingSet.open(vm).pageCount, 1)
  })
})

describe('a park whose directory cannot be created', () => {
  it('refuses a link that leads nowhere before anything is received', async () => {
    const folder = await temporaryFolder()
    const saved = join(folder, 'saved')
    writeFileSync(saved, golden('precopy'))
    const directory = join(folder, 'vm')
    symlinkSync(join(folder, 'nowhere'), directory)
    const park = Park.fromFile({ file: saved, directory })
    cleanups.add(() => park.close())
    await assert.rejects(park.done, { code: 'ERR_PARKED_EXISTS' })
    assert.deepEqual(readdirSync(folder).sort(), ['saved', 'vm'])
  })

  it('keeps the received VM and names its directory if DIR is created meanwhile', async () => {
    const folder = await temporaryFolder()
    const fifo = join(folder, 'fifo')
    execFileSync('mkfifo', [fifo])
    const directory = join(folder, 'vm')
    const cli = new Cli(['park', '--from', fifo, '--to', directory])
    await cli.seen(/waiting for a VM from/)
    mkdirSync(directory)
    writeFileSync(fifo, golden('precopy'))
    const { status, stderr } = await cli.ended
    assert.equal(status, 1)
    assert.match(stderr, /vm exists.*the whole VM is in .*vm\.partial/)
    rmSync(directory, { recursive: true })
    renameSync(`${directory}.partial`, directory)
    ParkedVm.open(directory, { verify: true }).close()
    assert(existsSync(directory))
  })
})
