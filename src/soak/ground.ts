/** Where a soak runs: on two hosts if they can be created, else on two sides of loopback. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { HostChanges, HostLink, LinkProxy, missing, TwoHosts } from '../testing/index.js'

export interface Side {
  readonly name: 'a' | 'b'
  readonly address: string
  /** Leads to a destination on this side, and can be cut. */
  readonly link: LinkProxy | HostLink
  spawn(command: string, args: readonly string[]): ChildProcessWithoutNullStreams
}

/** No destination listens here. Each link gets its real target before the first connection. */
const NOWHERE = 'tcp:127.0.0.1:1'

export class Ground {
  readonly a: Side
  readonly b: Side
  /** Undefined on loopback, which has no cable. */
  readonly hosts: TwoHosts | undefined
  /** For unix sockets, visible to both sides. */
  readonly folder: string
  readonly #changes: HostChanges

  static async create(): Promise<Ground> {
    const changes = new HostChanges()
    const folder = changes.folder()
    if (missing({ root: true, userfaultfd: false, commands: ['ip', 'tc'] }) === undefined) {
      const hosts = TwoHosts.create()
      const side = async (name: 'a' | 'b'): Promise<Side> => ({
        name,
        address: hosts[name].address,
        link: await HostLink.listen(hosts[name], NOWHERE),
        spawn: (command, args) => hosts[name].spawn(command, args),
      })
      return new Ground(await side('a'), await side('b'), hosts, folder, changes)
    }
    const side = async (name: 'a' | 'b'): Promise<Side> => ({
      name,
      address: '127.0.0.1',
      link: await LinkProxy.listen(NOWHERE),
      spawn: (command, args) => spawn(command, args),
    })
    return new Ground(await side('a'), await side('b'), undefined, folder, changes)
  }

  private constructor(
    a: Side,
    b: Side,
    hosts: TwoHosts | undefined,
    folder: string,
    changes: HostChanges,
  ) {
    this.a = a
    this.b = b
    this.hosts = hosts
    this.folder = folder
    this.#changes = changes
  }

  other(side: Side): Side {
    return side === this.a ? this.b : this.a
  }

  async close(): Promise<void> {
    await Promise.all([this.a.link.close(), this.b.link.close()])
    this.hosts?.remove()
    this.#changes.undo()
  }
}
