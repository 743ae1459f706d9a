/**
 * Huge pages and memory under a control group's limit: a shortage is reported
 * before a guest needs them.
 *
 * Runs alone: it takes the huge pages of the host.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { KernelError } from '../../src/errors.js'
import { MemoryRegion } from '../../src/kernel/index.js'
import { HostChanges, availableHugePages, runConfined } from '../../src/testing/index.js'
import type { GroupLimits } from '../../src/testing/index.js'
import { temporaryFolder } from '../cli/support.js'
import { cleanups } from '../support/cleanup.js'
import { lendHugePages } from '../support/huge-pages.js'
import { requires } from '../support/requires.js'

const kernel = new URL('../../src/kernel/index.js', import.meta.url).href
const main = fileURLToPath(new URL('../../bundle/cli/main.js', import.meta.url))
const library = new URL('../../src/index.js', import.meta.url).href
const HUGE = 2 ** 21

/** Code for {@link inGroup}: prints each warning. */
const noteWarnings = `
  process.removeAllListeners('warning')
  process.on('warning', ({ code, message }) => console.log(code, message))
  const { Destination, Guest } = await import(${JSON.stringify(library)})`

/**
 * Code for {@link inGroup}: a custom machine with RAM in a memfd, and a function
 * that listens for it.
 */
const ownMachine = (lengthBytes: number): string => `
  const region = MemoryRegion.create({ kind: 'memfd', lengthBytes: ${lengthBytes} })
  const idle = () => undefined
  const machine = {
    machineType: 'own', blocks: [{ name: 'ram', region, lengthBytes: ${lengthBytes} }], running: false,
    start: idle, stop: idle, saveDevices: idle, loadDevice: idle, resumeAfterLoad: idle,
    vcpuThreadIds: idle,
  }
  const listenOnce = async () => {
    const destination = await Destination.listen(machine, { uri: 'tcp:127.0.0.1:0' })
    await destination.close()
  }`

/** Runs a script with the kernel interface in a control group of its own. @returns its output */
async function inGroup(limits: GroupLimits, body: string): Promise<string> {
  const changes = new HostChanges()
  cleanups.add(() => {
    changes.undo()
  })
  const group = changes.controlGroup(limits)
  const script = `import { MemoryRegion, readPrivileges } from ${JSON.stringify(kernel)}
    const create = (pages) => {
      try { return MemoryRegion.create({ kind: 'hugetlb', lengthBytes: pages * ${HUGE} }) }
      catch (error) { console.log(error.code, error.message) }
    }
    ${body}`
  const args = ['--input-type=module', '-e', script]
  const end = await runConfined(process.execPath, args, { group, timeoutMs: 60_000 })
  assert.equal(end.signal, null, `${end.stdout}${end.stderr}`)
  return end.stdout
}

describe('huge pages under the limit of a control group', () => {
  lendHugePages(8)

  it('are refused above it, with the setting and the numbers', async function () {
    requires(this, 'root', 'hugePages')
    const said = await inGroup(
      { hugePageBytes: 2 * HUGE },
      `create(4)
       create(2).touch(0, ${2 * HUGE}, 'write')
       console.log('touched')`,
    )
    const [refused, touched] = said.split('\n')
    assert.match(refused ?? '', /^ENOMEM .*hugetlb\.2MB\.(max|limit_in_bytes)/)
    assert.match(refused ?? '', /4\.00 MiB left of 4\.00 MiB/)
    assert.doesNotMatch(refused ?? '', /nr_hugepages/)
    assert.equal(touched, 'touched')
  })

  it('include reserved pages that are not touched yet', async function () {
    requires(this, 'root', 'hugePages')
    const said = await inGroup(
      { hugePageBytes: 3 * HUGE },
      `const first = create(2)
       create(2)
       first.touch(0, ${2 * HUGE}, 'write')`,
    )
    assert.match(said, /^ENOMEM .*2\.00 MiB left of 6\.00 MiB/)
  })

  it('are refused above the limit of reservations', async function () {
    requires(this, 'root', 'hugePages')
    const said = await inGroup({ reservedHugePageBytes: 2 * HUGE }, 'create(4)')
    assert.match(said, /^ENOMEM .*hugetlb\.2MB\.rsvd\.(max|limit_in_bytes)/)
    assert.doesNotMatch(said, /nr_hugepages/)
  })

  it('stay reserved for a region that discards them', function () {
    requires(this, 'hugePages')
    const region = MemoryRegion.create({ kind: 'hugetlb', lengthBytes: 3 * HUGE })
    cleanups.add(() => {
      region.close()
    })
    region.touch(0, 2 * HUGE, 'write')
    const before = availableHugePages()
    region.discard(0, 3 * HUGE)
    assert.equal(availableHugePages(), before, 'pages that another process may take')
  })
})

describe('the memory limit of a control group', () => {
  it('is reported with its file, its use and the rest', async function () {
    requires(this, 'root')
    const said = await inGroup(
      { memoryBytes: 2 ** 30 },
      'console.log(JSON.stringify(readPrivileges().memoryGroup))',
    )
    const { path, limitBytes, usedBytes, headroomBytes } = JSON.parse(said) as Record<
      string,
      number
    >
    assert.match(String(path), /memory\.(max|limit_in_bytes)$/)
    assert.equal(limitBytes, 2 ** 30)
    assert(usedBytes !== undefined && usedBytes > 0)
    assert.equal(headroomBytes, 2 ** 30 - usedBytes)
  })
})

describe('a process whose control group has too little memory for RAM', () => {
  it('gets a single warning for a guest', async function () {
    requires(this, 'root')
    const said = await inGroup(
      { memoryBytes: 2 ** 30 },
      `${noteWarnings}
       const guest = await Guest.create({ ram: '8G', incoming: true })
       for (let i = 0; i < 2; i += 1) {
         const destination = await Destination.listen(guest, { uri: 'tcp:127.0.0.1:0' })
         await destination.close()
       }
       await guest.close()`,
    )
    assert.match(said, /^POSTCOPY_MEMORY_LIMIT the guest has 8\.\d+ GiB of RAM, .* 1\.00 GiB .*\n$/)
  })

  it('gets a warning for a machine of its own', async function () {
    requires(this, 'root')
    const said = await inGroup(
      { memoryBytes: 2 ** 30 },
      `${noteWarnings}
       ${ownMachine(2 ** 32)}
       await listenOnce()`,
    )
    assert.match(said, /^POSTCOPY_MEMORY_LIMIT the guest has 4\.00 GiB of RAM, .*\n$/)
  })

  // Enough for the RAM and a process with sanitizers, but not for twice the RAM.
  const LIMIT = 2 ** 30
  const RAM = 2 ** 29
  for (const [when, before] of [
    ['at first', ''],
    ['at the next listen', 'await listenOnce()'],
  ] as const) {
    it(`gets no warning for RAM that is present already ${when}`, async function () {
      requires(this, 'root')
      const said = await inGroup(
        { memoryBytes: LIMIT },
        `${noteWarnings}
         ${ownMachine(RAM)}
         ${before}
         region.touch(0, ${RAM}, 'write')
         await listenOnce()`,
      )
      assert.equal(said, '')
    })
  }

  it('gets a warning for RAM of which too much is not present yet', async function () {
    requires(this, 'root')
    const said = await inGroup(
      { memoryBytes: LIMIT },
      `${noteWarnings}
       ${ownMachine(2 ** 32)}
       region.touch(0, ${RAM}, 'write')
       await listenOnce()`,
    )
    assert.match(said, /^POSTCOPY_MEMORY_LIMIT the guest has 4\.00 GiB of RAM, .*\n$/)
  })

  it('gets no warning if its memory is full of reclaimable page cache', async function () {
    requires(this, 'root')
    const file = join(await temporaryFolder(), 'read-once')
    const said = await inGroup(
      { memoryBytes: LIMIT },
      `${noteWarnings}
       import { dirname, join } from 'node:path'
       import { openSync, readFileSync, readSync, truncateSync, writeFileSync } from 'node:fs'
       writeFileSync(${JSON.stringify(file)}, '')
       truncateSync(${JSON.stringify(file)}, ${RAM})
       const fd = openSync(${JSON.stringify(file)})
       const buffer = new Uint8Array(2 ** 20)
       while (readSync(fd, buffer) > 0);
       const stat = join(dirname(readPrivileges().memoryGroup.path), 'memory.stat')
       const [, cached] = /^inactive_file (\\d+)/m.exec(readFileSync(stat, 'utf8'))
       console.log(cached >= ${RAM / 2} ? 'cached' : cached)
       ${ownMachine(RAM)}
       await listenOnce()`,
    )
    assert.equal(said, 'cached\n')
  })
})

describe('postcopy guest', () => {
  for (const [ram, isWarned] of [
    ['8G', true],
    ['16M', false],
  ] as const) {
    it(`${isWarned ? 'warns' : 'does not warn'} if the control group has ${isWarned ? 'too little' : 'enough'} memory`, async function () {
      requires(this, 'root')
      const changes = new HostChanges()
      cleanups.add(() => {
        changes.undo()
      })
      const group = changes.controlGroup({ memoryBytes: 2 ** 30 })
      const args = [main, 'guest', '--ram', ram, '--incoming', 'unix:/nonexistent/socket']
      const { stderr } = await runConfined(process.execPath, args, { group, timeoutMs: 60_000 })
      const warning =
        /^postcopy: warning: the guest has 8\.\d+ GiB of RAM, .* 1\.00 GiB .*\[POSTCOPY_MEMORY_LIMIT\]$/gm
      assert.equal(stderr.match(warning)?.length ?? 0, isWarned ? 1 : 0, stderr)
    })
  }
})

describe('a region of huge pages without such a limit', () => {
  it('is refused by the pool, with the setting of the pool', function () {
    requires(this, 'hugePages')
    const lengthBytes = 2 ** 40
    assert.throws(
      () => MemoryRegion.create({ kind: 'hugetlb', lengthBytes }),
      (error: unknown) =>
        error instanceof KernelError &&
        error.code === 'ENOMEM' &&
        error.message.includes('vm.nr_hugepages'),
    )
  })
})
