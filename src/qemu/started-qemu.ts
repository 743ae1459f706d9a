/** A QEMU that this process has started. It keeps running after this process ends. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { errorToRecord, PostcopyError } from '../errors.js'
import { UntrustedFields } from '../park/internal.js'
import { printable } from '../printable.js'
import { readAdded } from '../user-files.js'
import type { QemuCommand } from './command.js'
import { escaped } from './option-text.js'
import type { PrivateFolder } from './private-folder.js'
import { QmpClient } from './qmp-client.js'
import { VmMonitor } from './vm-monitor.js'

const OWNER_ONLY = 0o600
const START_MS = 30_000
const POLL_MS = 10
/** Until QEMU has written its last lines. */
const LAST_LINES_MS = 200
/** After SIGTERM. */
const END_MS = 2000
const LOG_BYTES = 64 * 1024
const MOST_LINES = 5

/** How to reach a guest, by the names of its character devices, and `vnc`. */
export type Reach = Readonly<Record<string, string>>

/** A process, and its end. */
interface Running {
  readonly child: ChildProcess
  readonly exit: Promise<unknown>
}

export class StartedQemu {
  readonly pid: number
  readonly folder: PrivateFolder
  readonly client: QmpClient
  readonly vm: VmMonitor
  readonly #process: Running

  /**
   * Starts QEMU in a session of its own, and connects to its QMP.
   *
   * @param folder - for its sockets and its output
   * @throws PostcopyError `ERR_QEMU_START` with QEMU's last lines
   */
  static async start(command: QemuCommand, folder: PrivateFolder): Promise<StartedQemu> {
    const { binary, args, directory } = command
    const qmp = folder.file('qmp')
    const added = ['-incoming', 'defer', '-qmp', `unix:${escaped(qmp)},server=on,wait=off`]
    const files = ['stdout', 'stderr'].map((name) => openSync(folder.file(name), 'wx', OWNER_ONLY))
    let child
    try {
      child = spawn(binary, [...args, ...added], {
        cwd: directory,
        detached: true,
        stdio: ['ignore', ...files],
      })
    } finally {
      for (const fd of files) closeSync(fd)
    }
    const failed = once(child, 'error').then(([error]: unknown[]) => {
      const { code } = errorToRecord(error)
      const text = `${printable(binary)} cannot be started in ${printable(directory)} (${code})`
      return new PostcopyError('ERR_QEMU_START', text, { cause: error })
    })
    const running = { child, exit: new Promise((resolve) => child.once('exit', resolve)) }
    const { pid } = child
    if (pid === undefined) throw await failed
    failed.catch(() => undefined)
    try {
      const client = await connect(running, qmp, folder)
      return new StartedQemu(running, pid, folder, client)
    } catch (error) {
      await end(running)
      throw error
    }
  }

  private constructor(running: Running, pid: number, folder: PrivateFolder, client: QmpClient) {
    this.#process = running
    this.pid = pid
    this.folder = folder
    this.client = client
    this.vm = new VmMonitor(client)
  }

  get stderrFile(): string {
    return this.folder.file('stderr')
  }

  get stdoutFile(): string {
    return this.folder.file('stdout')
  }

  /** Why QEMU failed: its error-desc, if QMP still answers, and its stderr. */
  async lastWords(): Promise<string> {
    const { errorDesc } = await this.vm.migration().catch(() => ({ errorDesc: undefined }))
    // A QEMU that ends writes its reason last.
    if (errorDesc === undefined) await Promise.race([this.#process.exit, sleep(LAST_LINES_MS)])
    const log = readAdded(this.stderrFile, 0, LOG_BYTES).toString()
    return errorDesc === undefined || log.includes(errorDesc) ? log : `${log}\n${errorDesc}\n`
  }

  /** How to reach the guest, as QEMU reports it. */
  async reach(): Promise<Reach> {
    const answer = await this.client.execute('query-chardev')
    const devices = (Array.isArray(answer) ? (answer as unknown[]) : []).flatMap((value) => {
      const fields = new UntrustedFields(value, 'query-chardev of QEMU', 'ERR_QMP_PROTOCOL')
      const [label, filename] = [fields.text('label'), fields.text('filename')]
      if (filename.includes(this.folder.file('qmp')) || /^(?:null|vc)/.test(filename)) return []
      const where = filename.replace(/^disconnected:/, '').replace(/,server=on$/, '')
      return [[label, where === 'stdio' ? `output in ${this.stdoutFile}` : where] as const]
    })
    return { ...Object.fromEntries(devices), ...(await this.#vnc()) }
  }

  /** Lets it run without this process. */
  release(): void {
    this.client.close()
    this.#process.child.unref()
  }

  /** Ends it, by SIGKILL if it does not end soon. May be called twice. */
  async end(): Promise<void> {
    this.client.close()
    await end(this.#process)
  }

  async #vnc(): Promise<Reach> {
    try {
      const answer = await this.client.execute('query-vnc')
      const fields = new UntrustedFields(answer, 'query-vnc of QEMU', 'ERR_QMP_PROTOCOL')
      if (fields.raw('enabled') !== true) return {}
      return { vnc: `${fields.text('host')}:${fields.text('service')}` }
    } catch {
      // This QEMU may have been built without VNC.
      return {}
    }
  }
}

async function connect(
  { child, exit }: Running,
  qmp: string,
  folder: PrivateFolder,
): Promise<QmpClient> {
  for (const deadline = Date.now() + START_MS; ;) {
    try {
      return await QmpClient.connect(qmp)
    } catch (error) {
      const { code } = errorToRecord(error)
      if (hasEnded(child)) throw ended(child, folder)
      if (code !== 'ERR_QMP_CONNECT' && code !== 'ERR_QMP_CLOSED') throw error
      if (Date.now() > deadline) throw error
    }
    await Promise.race([exit, sleep(POLL_MS)])
    if (hasEnded(child)) throw ended(child, folder)
  }
}

function ended(child: ChildProcess, folder: PrivateFolder): PostcopyError {
  const how = child.signalCode ?? `status ${child.exitCode ?? ''}`
  const log = readAdded(folder.file('stderr'), 0, LOG_BYTES).toString()
  const lines = log.split('\n').filter((line) => line.trim() !== '')
  const words = lines.slice(-MOST_LINES).map((line) => `\n${printable(line)}`)
  const text = `QEMU has ended before it waited for the VM (${how})${words.length === 0 ? '' : ':'}`
  return new PostcopyError('ERR_QEMU_START', `${text}${words.join('')}`)
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

async function end({ child, exit }: Running): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (hasEnded(child)) return
    child.kill(signal)
    await Promise.race([exit, sleep(END_MS, undefined, { ref: false })])
  }
}
