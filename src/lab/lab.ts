/**
 * What the `run` of an experiment receives: memory, userfaultfds, threads, and
 * a place for results.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { PostcopyError } from '../errors.js'
import {
  type FeatureName,
  MemoryRegion,
  type RegionOptions,
  Userfaultfd,
  type UserfaultfdOptions,
} from '../kernel/index.js'
import {
  availableHugePages,
  createMemoryGroup,
  LabResponder,
  LabThread,
  type MemoryGroup,
  type Needs,
  type ResponderOptions,
  type Step,
  type ThreadOptions,
} from '../host/index.js'
import { mapMemory } from './memory.js'
import type { LabMemory, LabMemoryKind, MemoryOptions } from './memory.js'
import { distributionOf } from './plots.js'
import type { Distribution, Plot } from './plots.js'
import { RawUserfaultfd } from './raw-userfaultfd.js'
import type { RawOpenOptions } from './raw-userfaultfd.js'

/** Settings that the parent sends to the lab in the child. */
export interface LabSetting {
  scratch: string
  kernel: string
  root: boolean
  features: readonly FeatureName[]
  kernelFaults: boolean
  hugePagesFree: number
  changes: readonly string[]
}

/** What a lab collects besides the observations. */
export interface LabRecord {
  plots: Plot[]
  unavailable: Record<string, string>
  notes: string[]
}

/** Thrown by {@link Lab.notPossible}; its message is the reason. */
export class NotPossible extends PostcopyError {
  constructor(reason: string) {
    super('ERR_LAB_NOT_POSSIBLE', reason)
  }
}

export class Lab {
  /** An empty folder; removed after the experiment, with the mounts and swap files in it. */
  readonly scratch: string
  /** The kernel's version, such as `6.18.44`. */
  readonly kernel: string
  readonly root: boolean
  /** The kernel's features, without those that the run was told to hide. */
  readonly features: ReadonlySet<FeatureName>
  readonly kernelFaults: boolean
  /** Free 2 MiB pages. */
  readonly hugePagesFree: number
  readonly record: LabRecord = { plots: [], unavailable: {}, notes: [] }
  readonly #changes: readonly string[]
  #groups = 0
  /** Threads, buffers and the like, which must outlive the call that made them. */
  readonly #kept: unknown[] = []

  constructor(setting: LabSetting) {
    this.scratch = setting.scratch
    this.kernel = setting.kernel
    this.root = setting.root
    this.features = new Set(setting.features)
    this.kernelFaults = setting.kernelFaults
    this.hugePagesFree = setting.hugePagesFree
    this.#changes = setting.changes
  }

  /** Maps fresh memory by a raw mmap(2); see {@link LabMemory}. */
  map(kind: LabMemoryKind, options: MemoryOptions = {}): LabMemory {
    try {
      return mapMemory(kind, this.scratch, options)
    } catch (error) {
      // The pool of huge pages belongs to the whole host: another process may have taken them.
      if (!kind.startsWith('hugetlb') || !(error instanceof PostcopyError)) throw error
      const free = availableHugePages()
      const pages = options.pages ?? 4
      if (error.code !== 'ENOMEM' || free >= pages) throw error
      return this.notPossible(`needs ${pages} free 2 MiB pages, but the pool has ${free}`)
    }
  }

  /** Creates a region of `postcopy/kernel`. */
  region(options: RegionOptions): MemoryRegion {
    return this.keep(MemoryRegion.create(options))
  }

  /** Opens a userfaultfd of `postcopy/kernel`. */
  userfaultfd(options: UserfaultfdOptions = {}): Userfaultfd {
    return this.keep(Userfaultfd.open(options))
  }

  /** Opens a userfaultfd that returns errno and output field; see {@link RawUserfaultfd}. */
  open(...features: FeatureName[]): RawUserfaultfd {
    return RawUserfaultfd.open({ features })
  }

  openWith(options: RawOpenOptions): RawUserfaultfd {
    return RawUserfaultfd.open(options)
  }

  /** Starts a thread that runs these steps; see `step`. */
  thread(steps: Step | readonly Step[], options: ThreadOptions = {}): LabThread {
    return this.keep(new LabThread('kind' in steps ? [steps] : steps, options))
  }

  /** Starts a native thread that resolves every fault of a userfaultfd. */
  responder(fd: number, options: ResponderOptions): LabResponder {
    return this.keep(new LabResponder(fd, options))
  }

  /** Keeps a value from being collected until the experiment ends. */
  keep<T>(value: T): T {
    this.#kept.push(value)
    return value
  }

  /** Plots latencies. Returns the distributions, for the row. */
  distributions(title: string, samplesNs: Record<string, ArrayLike<number>>): Distribution[] {
    const distributions = Object.entries(samplesNs).map(([name, samples]) =>
      distributionOf(name, samples),
    )
    this.plot({ kind: 'distributions', title, distributions })
    return distributions
  }

  plot(plot: Plot): void {
    this.record.plots.push(plot)
  }

  /** Adds a sentence to the row. */
  note(text: string): void {
    this.record.notes.push(text)
  }

  /** Marks a fact as impossible to observe here; the other facts still count. */
  unavailable(name: string, reason: string): void {
    this.record.unavailable[name] = reason
  }

  /** Ends the experiment as "not possible here". */
  notPossible(reason: string): never {
    throw new NotPossible(reason)
  }

  /** Whether the features are present; for what only a part of the experiment needs. */
  has(need: Pick<Needs, 'features'>): boolean {
    return (need.features ?? []).every((name) => this.features.has(name))
  }

  /** Writes a file in /proc or /sys that the experiment has declared in `changes`. */
  set(path: string, value: string | number): void {
    if (!this.#changes.includes(path)) {
      throw new TypeError(`lab.set: "${path}" is not in the experiment's changes`)
    }
    writeFileSync(path, String(value))
  }

  /**
   * Creates a control group that limits memory; removed after the experiment. Needs root. A forked
   * child joins it by writing `0` to `procsPath`.
   */
  memoryGroup(limitBytes: number): MemoryGroup {
    this.#groups += 1
    return createMemoryGroup(`${basename(this.scratch)}-${this.#groups}`, limitBytes)
  }

  /** A file's text, trimmed; `undefined` if the file does not exist. */
  readFile(path: string): string | undefined {
    try {
      return readFileSync(path, 'utf8').trim()
    } catch {
      return undefined
    }
  }

  /** Runs a command and returns its output; throws if the exit status is not 0. */
  command(command: string, ...args: string[]): string {
    return execFileSync(command, args, { encoding: 'utf8', timeout: 8000 }).trim()
  }
}
