import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { runNode } from '../support/node-script.js'

function addon(name: string): string {
  const path = createRequire(import.meta.url).resolve(`../../../build/Release/${name}.node`)
  return `require(${JSON.stringify(path)})`
}

const setup = `
  import { createRequire } from 'node:module'
  import { setTimeout as sleep } from 'node:timers/promises'
  const require = createRequire(import.meta.url)
  const kernel = ${addon('postcopy')}
  const guest = ${addon('vcpu')}`

describe('A vCPU of the addon', () => {
  it('reports a link that another thread has changed, and does not follow it', () => {
    const { stdout } = runNode(`${setup}
      const link = Uint8Array.of(0xff, 0xff, 0xff, 0xff)
      for (let round = 0; round < 30; round += 1) {
        const ram = kernel.regionCreate(0, 8192, false, 'ram')
        const ledger = kernel.regionCreate(0, 4096, false, 'ledger')
        const machine = guest.machineCreate(kernel.regionLease(ram), kernel.regionLease(ledger), 1, 2)
        // The pattern "chase", every page filled.
        guest.machineConfigure(machine, new Float64Array([4, 0, 100, 0, 0, 0, 1]))
        guest.machineFill(machine)
        while (guest.machineScanRunning(machine)) await sleep(1)
        guest.machineStart(machine)
        const stats = new Float64Array(11)
        do {
          await sleep(1)
          guest.vcpuReadStats(machine, 0, stats)
        } while (stats[1] < 1000)
        kernel.regionWrite(ram, 24, link, false)
        while (guest.machineFindings(machine).length === 0) await sleep(1)
        guest.machineQuit(machine)
      }
      console.log('end')`)
    assert.match(stdout, /^end$/m)
  })

  it('does not accept read-only memory', () => {
    const { stdout } = runNode(`${setup}
      import { openSync } from 'node:fs'
      const path = '/proc/self/fd/' + kernel.regionInfo(kernel.regionCreate(1, 8192, false, 'ram')).fd
      const readOnly = kernel.regionOpenFile(openSync(path, 'r'), 8192, false)
      try {
        kernel.regionLease(readOnly)
      } catch (error) {
        console.log(error.name + ': ' + error.message)
      }`)
    assert.match(stdout, /^RangeError: region must be one that may be written$/m)
  })
})
