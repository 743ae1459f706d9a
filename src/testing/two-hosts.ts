/**
 * Two hosts on one machine: network namespaces joined by a pair of virtual Ethernet devices. A
 * test can limit their bandwidth and pull the cable. Needs root and iproute2 (`ip`, `tc`).
 */
import { existsSync } from 'node:fs'
import { Host, ip } from './host.js'
import { HostChanges } from '../host/index.js'

/**
 * Reserved for documentation (RFC 5737), so they hide no real host; only
 * the two namespaces use them.
 */
const ADDRESSES = { a: '192.0.2.1', b: '192.0.2.2' } as const
const DEVICE = 'eth0'

let pairs = 0

/**
 * A pair of hosts, `a` and `b`, each with an address that the other reaches, and a loopback of its
 * own. They share the file system, so unix sockets work across hosts as well.
 *
 * {@link TwoHosts.remove} kills the processes that still run in them and removes them; so do the
 * end of the process, SIGINT, SIGTERM and SIGHUP. After SIGKILL the namespaces `postcopy-PID-…`
 * remain (`ip netns list`).
 */
export class TwoHosts {
  readonly a: Host
  readonly b: Host
  readonly #changes: HostChanges

  /** @throws PostcopyError `ERR_TWO_HOSTS` with the message of ip(8) */
  static create(): TwoHosts {
    const changes = new HostChanges()
    try {
      return new TwoHosts(changes)
    } catch (error) {
      changes.undo()
      throw error
    }
  }

  private constructor(changes: HostChanges) {
    this.#changes = changes
    const prefix = `postcopy-${process.pid}-${pairs++}`
    this.a = this.#addHost(`${prefix}-a`, ADDRESSES.a)
    this.b = this.#addHost(`${prefix}-b`, ADDRESSES.b)
    const [from, to] = [this.a.name, this.b.name]
    ip('link', 'add', DEVICE, 'netns', from, 'type', 'veth', 'peer', 'name', DEVICE, 'netns', to)
    for (const { name, address } of [this.a, this.b]) {
      ip('-n', name, 'address', 'add', `${address}/24`, 'dev', DEVICE)
      ip('-n', name, 'link', 'set', DEVICE, 'up')
    }
  }

  #addHost(name: string, address: string): Host {
    // Only a killed process with the same id can have left a namespace of this name.
    if (existsSync(`/run/netns/${name}`)) ip('netns', 'delete', name)
    ip('netns', 'add', name)
    const host = new Host(name, address, DEVICE)
    this.#changes.defer(() => {
      host.signal('SIGKILL')
      ip('netns', 'delete', name)
    })
    ip('-n', name, 'link', 'set', 'lo', 'up')
    return host
  }

  /**
   * Pulls the cable: packets are lost without notice, and connections stay half-open until they
   * time out. If the link is healed before that, they continue.
   */
  cutLink(): void {
    for (const host of [this.a, this.b]) host.setLink('down')
  }

  /** Undoes {@link TwoHosts.cutLink}. Has no effect on a link that is up. */
  healLink(): void {
    for (const host of [this.a, this.b]) host.setLink('up')
  }

  /** May be called twice. */
  remove(): void {
    this.#changes.undo()
  }

  [Symbol.dispose](): void {
    this.remove()
  }
}
