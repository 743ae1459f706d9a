/** Ends a process whose vCPUs are parked on pages that are never served. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Userfaultfd } from '../../src/kernel/index.js'
import { Guest } from '../../src/guest/index.js'

const guest = await Guest.create({ ram: '1M', vcpus: 3, workload: 'random' })
const uffd = Userfaultfd.open()
for (const { region, lengthBytes } of guest.blocks) {
  region.discard(0, lengthBytes)
  uffd.register(region.address, lengthBytes, { missing: true })
}
guest.start()
while (!guest.vcpuStats().every(({ touching }) => (touching?.sinceUs ?? 0) > 2000)) await sleep(1)
process.stdout.write('parked\n')
if (process.argv[2] === 'exit') process.exit(0)
if (process.argv[2] === 'close') await guest.close()
