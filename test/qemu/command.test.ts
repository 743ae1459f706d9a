/** The command line of a QEMU that is started for a parked VM. */
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  checkClash,
  checkMemoryFiles,
  chooseCommand,
  separateSockets,
} from '../../src/qemu/command.js'
import type { Origin } from '../../src/qemu/origin-file.js'
import { temporaryFolder } from '../cli/support.js'

function origin(args: readonly string[], wasRunning = true): Origin {
  const launch = { binary: '/bin/qemu', version: '7.2.0', args, directory: '/work' }
  return { wasRunning, vcpus: 1, maxVcpus: 1, disks: [], launch }
}

describe('the command of a QEMU', () => {
  it('is the recorded one without what only the parked QEMU needed', () => {
    const args = ['-m', '64', '-S', '-incoming', 'defer', '-daemonize', '-pidfile', 'p', '-s']
    const command = chooseCommand([], origin(args))
    assert.deepEqual(command, {
      ...{ binary: '/bin/qemu', args: ['-m', '64', '-s'], directory: '/work', isRecorded: true },
    })
  })

  it('leaves a guest paused that was paused when it was parked', () => {
    assert.deepEqual(chooseCommand([], origin(['-m', '64'], false)).args, ['-m', '64', '-S'])
  })

  it('is the given one, with the recorded program if it has none', () => {
    const given = chooseCommand(['-m', '1'], origin([]))
    assert.deepEqual([given.binary, given.args], ['/bin/qemu', ['-m', '1']])
    assert.equal(chooseCommand(['-m', '1'], undefined).binary, 'qemu-system-x86_64')
    assert.deepEqual(chooseCommand(['/opt/q', '-S'], origin([])), {
      ...{ binary: '/opt/q', args: ['-S'], directory: process.cwd(), isRecorded: false },
    })
  })

  it('must be given if it is not recorded', () => {
    assert.throws(() => chooseCommand([], undefined), { code: 'ERR_NO_LAUNCH_RECORD' })
  })
})

describe('sockets of several QEMUs', () => {
  const listening = [
    ...['-qmp', 'unix:/run/a,,b,server=on,wait=off', '-chardev', 'socket,id=c,path=/c,server=on'],
    ...['-vnc', 'unix:/v', '-serial', 'unix:/peer', '-chardev', 'socket,id=d,path=/d'],
  ]

  it('are moved into the folder of each clone, but not those to which QEMU connects', () => {
    const args = [...listening]
    const moved = separateSockets(args, { folder: '/f', directory: '/', isOneOfMany: true })
    assert.deepEqual(args, [
      ...['-qmp', 'unix:/f/socket-0,server=on,wait=off'],
      ...['-chardev', 'socket,id=c,server=on,path=/f/socket-2'],
      ...['-vnc', 'unix:/f/socket-4', '-serial', 'unix:/peer', '-chardev', 'socket,id=d,path=/d'],
    ])
    assert.equal(moved.length, 3)
    assert.match(moved[0] ?? '', /^\/run\/a,b is \/f\/socket-0/)
  })

  it('stay where they were for one clone, unless the path is in use', async () => {
    const folder = await temporaryFolder()
    const args = ['-qmp', 'unix:q,server=on,wait=off']
    const separation = { folder: '/f', directory: folder, isOneOfMany: false }
    assert.deepEqual(separateSockets(args, separation), [])
    assert.deepEqual(args, ['-qmp', 'unix:q,server=on,wait=off'])
    writeFileSync(join(folder, 'q'), '')
    separateSockets(args, separation)
    assert.deepEqual(args, ['-qmp', 'unix:/f/socket-0,server=on,wait=off'])
  })

  it('may use the next free display of VNC', () => {
    const args = ['-vnc', '127.0.0.1:1']
    separateSockets(args, { folder: '/f', directory: '/', isOneOfMany: true })
    assert.deepEqual(args, ['-vnc', '127.0.0.1:1,to=99'])
  })
})

describe('what several clones cannot share', () => {
  it('is refused by name', async () => {
    const folder = await temporaryFolder()
    for (const args of [
      ['-s'],
      ['-gdb', 'tcp::1234'],
      ['-qmp', 'tcp:localhost:4444,server=on'],
      ['-serial', 'telnet:localhost:4444,server'],
      ['-chardev', 'socket,id=a,host=localhost,port=1,server=on'],
      ['-netdev', 'user,id=n,hostfwd=tcp::2222-:22'],
      ['-spice', 'port=5900'],
      ['-object', 'memory-backend-file,id=m,size=1G,share=on,mem-path=ram'],
      ['-object', '{"qom-type":"memory-backend-file","mem-path":"ram","share":true}'],
    ]) {
      const [name = ''] = args
      const message = new RegExp(`several clones cannot share .*${name}`)
      assert.throws(() => checkClash(['-m', '1', ...args], folder), {
        code: 'ERR_CLONES_CLASH',
        message,
      })
    }
  })

  it('is nothing if QEMU connects, or makes its own memory file', async () => {
    const folder = await temporaryFolder()
    mkdirSync(join(folder, 'huge'))
    const memory = 'memory-backend-file,id=m,size=1G,share=on,mem-path=huge'
    const args = ['-serial', 'tcp:localhost:1', '-object', memory, '-netdev', 'user,id=n']
    checkClash(args, folder)
  })
})

describe('a file that QEMU uses as memory', () => {
  it('is refused if it exists, because QEMU would discard its content', async () => {
    const folder = await temporaryFolder()
    writeFileSync(join(folder, 'ram'), 'content')
    const uses: readonly (readonly string[])[] = [
      ['-object', 'memory-backend-file,id=m,size=16M,share=on,mem-path=ram'],
      ['-object', 'memory-backend-file,id=m,size=16M,mem-path=ram'],
      ['-object', '{"qom-type": "memory-backend-file", "id": "m", "mem-path": "\\u0072am"}'],
      ['-mem-path', 'ram'],
    ]
    for (const args of uses) {
      const check = (): void => checkMemoryFiles(['-m', '16', ...args], folder)
      assert.throws(check, {
        code: 'ERR_MEMORY_FILE',
        message: /would discard the content of .*ram/,
      })
    }
  })

  it('is no concern if QEMU makes it', async () => {
    const folder = await temporaryFolder()
    for (const path of ['new', '.']) {
      checkMemoryFiles(['-object', `memory-backend-file,id=m,size=1G,mem-path=${path}`], folder)
    }
  })
})
