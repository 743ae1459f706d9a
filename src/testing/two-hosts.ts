/**
 * Two hosts on one machine: network namespaces joined by a pair of virtual Ethernet devices, which
 * a test can slow down and pull the cable of. Needs root and iproute2 (`ip`, `tc`).
 */
import { existsSync } from 'node:fs'
import { Host, ip } from './host.js'
import { HostChanges } from '../host/index.js'

/** Reserved for documentation (RFC 5737): nothing real is hidden by them, and nobody else sees them. */
const ADDRESSES = { a: '192.0.2.1', b: '192.0.2.2' } as const
const DEVICE = 'eth0'

let pairs = 0

/**
 * A pair of hosts, `a` and `b`, each with an address that the other reaches, and loopback of its
 * own. They share files, so unix sockets work across as well.
 *
 * {@link TwoHosts.remove} kills what still runs in them and takes them away; so do the end of the
 * process, SIGINT, SIGTERM and SIGHUP. SIGKILL leaves the namespaces `postcopy-PID-…` behind
 * (`ip netns list`).
 */
export class TwoHosts {
  readonly a: Host
  readonly b: Host
  readonly #changes: HostChanges

  /** @throws PostcopyError `ERR_TWO_HOSTS` with what ip(8) has said */
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
    // Only a process that had our id, and was killed, can have left one of this name.
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
   * Pulls the cable: packets are lost and nobody is told, connections stay half-open until they
   * give up. Heal it in time, and they go on.
   */
  cutLink(): void {
    for (const host of [this.a, this.b]) host.setLink('down')
  }

  /** Takes {@link TwoHosts.cutLink} back. Harmless where the link is whole. */
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
