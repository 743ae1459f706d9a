/** A destination that takes long to discard its RAM. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cleanups } from '../support/cleanup.js'
import { runNode } from '../support/node-script.js'

const module = (path: string): string =>
  JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href)
const support = (path: string): string =>
  JSON.stringify(new URL(`../support/${path}`, import.meta.url).href)

describe('a destination', () => {
  it('answers PING before it discards its RAM', () => {
    const folder = mkdtempSync(join(tmpdir(), 'postcopy-test-'))
    cleanups.add(() => {
      rmSync(folder, { recursive: true })
    })
    const answered = JSON.stringify(join(folder, 'answered'))
    const preload = `
      import { existsSync } from 'node:fs'
      import { isMainThread } from 'node:worker_threads'
      import { loadAddon } from ${module('kernel/index.js')}
      if (!isMainThread) {
        // The worker is a bundle, but uses the same instance of the addon as this code.
        const addon = loadAddon('postcopy')
        const { regionDiscard } = addon
        addon.regionDiscard = (region, offset, length) => {
          const sleep = new Int32Array(new SharedArrayBuffer(4))
          for (let slept = 0; !existsSync(${answered}); slept += 1) {
            if (slept > 500) throw new Error('no PONG while RAM is emptied')
            Atomics.wait(sleep, 0, 0, 20)
          }
          return regionDiscard(region, offset, length)
        }
      }`
    const script = `
      import { writeFileSync } from 'node:fs'
      import { FakeSource, discardAll, packageOf, prologue } from ${support('fake-peer.js')}
      import { listenFor, postcopy, reached } from ${support('migration.js')}
      import { TestMachine } from ${support('test-machine.js')}
      const machine = new TestMachine({ blocks: { ram: 2 ** 20 } })
      const destination = await listenFor(machine, { capabilities: postcopy })
      const source = await FakeSource.connect(destination.uri, machine)
      source.send(prologue(machine))
      await source.heard('pong')
      writeFileSync(${answered}, '')
      source.send(discardAll(machine))
      source.send(packageOf(machine))
      await reached(destination, 'postcopy-active')
      console.log(destination.state)
      process.exit(0)`
    const flags = ['--import', `data:text/javascript,${encodeURIComponent(preload)}`]
    assert.match(runNode(script, flags).stdout, /^postcopy-active$/m)
  })
})
