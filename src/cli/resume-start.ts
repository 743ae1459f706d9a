/** `postcopy resume --start`: starts the QEMUs for a parked VM, and says how to reach them. */
import type { Command } from 'commander'
import { PostcopyError } from '../errors.js'
import type { Reach, StartedClone } from '../qemu/index.js'
import { printable } from '../printable.js'
import type { Clone, ResumeResult } from './clone.js'
import { parseCount } from './options.js'
import { output } from './output.js'
import type { Scope } from './scope.js'
import type { StatusLine } from './status-line.js'
import { utf8 } from './utf8.js'

export interface StartCommandOptions {
  start?: true
  count?: number
  disks?: string
  shareDisks?: true
}

interface OtherOptions extends StartCommandOptions {
  preempt?: true
  recover?: true
  qemuLog?: string
  tlsCreds?: string
}

export function addStartOptions(command: Command): void {
  command
    .option(
      '--start',
      'start QEMU: as the parked one was started, or with the command after --; it keeps running after this command ends',
    )
    .option('--count <n>', 'with --start: how many clones', parseCount)
    .option(
      '--disks <dir>',
      'with --start: folder for the overlays of the disks that each clone may write',
    )
    .option(
      '--share-disks',
      'with --start: let the guest write to the disks of the parked VM, which can then not be resumed again',
    )
}

/** @throws PostcopyError `ERR_USAGE` for options that do not fit */
export function checkStartOptions(options: OtherOptions): void {
  const { start, count, disks, shareDisks } = options
  if (start !== true) {
    const given = [
      count === undefined ? '' : '--count',
      disks === undefined ? '' : '--disks',
      shareDisks === undefined ? '' : '--share-disks',
    ].find((name) => name !== '')
    if (given !== undefined) throw new PostcopyError('ERR_USAGE', `${given} needs --start`)
    return
  }
  const other = [
    options.recover === undefined ? '' : '--recover',
    options.qemuLog === undefined ? '' : '--qemu-log',
    options.tlsCreds === undefined ? '' : '--tls-creds',
  ].find((name) => name !== '')
  if (other !== undefined) {
    throw new PostcopyError('ERR_USAGE', `--start cannot be combined with ${other}`)
  }
  if (disks !== undefined && shareDisks === true) {
    throw new PostcopyError('ERR_USAGE', '--disks and --share-disks exclude each other')
  }
}

/** How to reach a clone. */
export interface QemuResult {
  readonly pid: number
  readonly qmp: string
  readonly stdout: string
  readonly stderr: string
  readonly reach: Reach
  readonly disks: readonly string[]
}

/** A QEMU that was started, until its guest runs or has failed. */
export class CloneHost {
  readonly uri: string
  /** The VM that is sent to it. */
  clone: Clone | undefined
  readonly #started: StartedClone
  #isConcluded = false

  constructor(started: StartedClone) {
    this.#started = started
    this.uri = started.uri
  }

  /** QEMU's own words about a failure. */
  read(): Promise<string> {
    return this.#started.qemu.lastWords()
  }

  /** Prints how to reach a guest that has arrived; ends QEMU without one. */
  async conclude(
    result: ResumeResult,
    isJson: boolean,
  ): Promise<ResumeResult & { qemu?: QemuResult }> {
    this.#isConcluded = true
    if (result.status === 'failed') {
      await this.#started.discard()
      return result
    }
    const { qemu, disks } = this.#started
    const reach = await qemu.reach().catch(() => ({}))
    qemu.release()
    const { pid, stdoutFile: stdout, stderrFile: stderr } = qemu
    const about = { pid, qmp: `unix:${qemu.client.path}`, stdout, stderr, reach, disks }
    if (!isJson) output.print(inWords(about))
    return { ...result, qemu: about }
  }

  /** For a command that is interrupted: QEMU stays if it may have the guest. */
  async leave(): Promise<void> {
    if (this.#isConcluded) return
    const location = this.clone?.source?.guestLocation ?? 'here'
    if (location === 'here') await this.#started.discard()
    else this.#started.qemu.release()
  }
}

export async function startHosts(
  directory: string,
  words: readonly string[],
  options: OtherOptions,
  { scope, status }: { scope: Scope; status: StatusLine },
): Promise<CloneHost[]> {
  const { count = 1, disks, shareDisks = false, preempt = false } = options
  const { startClones } = await import('../qemu/index.js')
  const starting = startClones(directory, {
    words: words.map((word) => utf8(word, 'an argument of QEMU')),
    ...{ count, shareDisks, preempt },
    note: (text) => status.note(text),
    ...(disks === undefined ? {} : { disks: utf8(disks, '--disks') }),
  })
  const hosts = starting.then((clones) => clones.map((clone) => new CloneHost(clone)))
  return await scope.use(hosts, (made) => Promise.all(made.map((host) => host.leave())))
}

function inWords({ pid, qmp, stderr, reach, disks }: QemuResult): string {
  const lines = [
    `QEMU ${pid}: QMP ${printable(qmp)}, standard error ${printable(stderr)}`,
    ...Object.entries(reach).map(([name, where]) => `  ${printable(name)}: ${printable(where)}`),
    ...disks.map((disk) => `  disk: ${printable(disk)}`),
  ]
  return `${lines.join('\n')}\n`
}
