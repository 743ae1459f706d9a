/**
 * Runs alone: it compares counts of huge pages.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { release } from 'node:os'
import { Userfaultfd, probeHost } from '../../src/kernel/index.js'
import { runNode } from '../support/node-script.js'
import { openUffd } from '../support/park.js'
import { requires } from '../support/requires.js'

const kernel = new URL('../../src/kernel/index.js', import.meta.url).href

describe('probeHost', () => {
  it('agrees with the methods that open a userfaultfd', () => {
    const report = probeHost()
    assert.equal(report.kernelRelease, release())
    const uffd = openUffd()
    assert.deepEqual(report.features, uffd.available)
    const fact = report.facts.find(({ id }) => id === 'userfaultfd')
    assert.equal(fact?.status, uffd.userModeOnly ? 'limited' : 'ok')
    for (const { method, userModeOnly, error } of report.privileges.openMethods) {
      const open = () => Userfaultfd.open({ method, userModeOnly })
      if (error === undefined) open().close()
      else assert.throws(open, { code: error })
    }
  })

  it('has a title and a use for each feature, and advice for each missing one', () => {
    const { facts } = probeHost()
    assert.equal(new Set(facts.map(({ id }) => id)).size, facts.length)
    for (const { id, title, found, enables, status, remedy } of facts) {
      assert(title !== '' && found !== '' && enables !== '', id)
      assert(status === 'ok' || remedy !== undefined, id)
    }
  })

  it('reads the settings of this host', () => {
    const { privileges } = probeHost()
    const read = (path: string) => Number(readFileSync(path, 'utf8'))
    assert.equal(privileges.uid, process.getuid?.())
    assert.equal(privileges.maxMapCount, read('/proc/sys/vm/max_map_count'))
    assert.equal(privileges.unprivilegedUserfaultfd, read('/proc/sys/vm/unprivileged_userfaultfd'))
    assert.equal(privileges.hugePages?.total, read('/proc/sys/vm/nr_hugepages'))
    assert((privileges.memoryAvailableBytes ?? 0) > 2 ** 20)
  })

  it('leaves nothing open', () => {
    const { stdout } = runNode(
      `import { readdirSync, readFileSync } from 'node:fs'
       import { probeHost } from ${JSON.stringify(kernel)}
       const count = () => [readdirSync('/proc/self/fd').length, readFileSync('/proc/self/maps', 'utf8').match(/postcopy$/gm)?.length ?? 0]
       probeHost()
       const before = count()
       probeHost()
       console.log(String(before) === String(count()))`,
    )
    assert.equal(stdout.trim(), 'true')
  })

  it('reports what root without CAP_SYS_PTRACE lacks', function () {
    requires(this, 'root', 'setpriv')
    const { stdout } = runNode(
      `import { probeHost } from ${JSON.stringify(kernel)}
       const { facts, privileges } = probeHost()
       console.log(JSON.stringify({
         capabilities: [...privileges.capabilities],
         fork: facts.find(({ id }) => id === 'event-fork').status,
       }))`,
      [],
      { prefix: ['setpriv', '--bounding-set=-sys_ptrace', '--inh-caps=-sys_ptrace'] },
    )
    const { capabilities, fork } = JSON.parse(stdout) as { capabilities: string[]; fork: string }
    assert(!capabilities.includes('SYS_PTRACE'))
    assert.equal(fork, 'missing')
  })
})

describe('the addon', () => {
  const load = `
    import { MemoryRegion } from ${JSON.stringify(kernel)}
    try { MemoryRegion.create({ kind: 'anon', lengthBytes: 4096 }); console.log('loaded') }
    catch (error) { console.log(error.code, error.message) }`

  it('that is missing in POSTCOPY_NATIVE_DIR is reported with that variable', () => {
    const { stdout } = runNode(load, [], { env: { POSTCOPY_NATIVE_DIR: '/nowhere' } })
    assert.match(stdout, /^ERR_ADDON_MISSING .*\/nowhere\/postcopy\.node.*unset the variable/)
  })

  it('is not loaded before its first use', () => {
    const { stdout } = runNode(
      `import ${JSON.stringify(kernel)}
       import { readFileSync } from 'node:fs'
       console.log(readFileSync('/proc/self/maps', 'utf8').includes('postcopy.node'))`,
    )
    assert.equal(stdout.trim(), 'false')
  })
})
