/** Temporary changes to the host. They are undone in reverse order, also on an exit or a signal. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { execFileSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { PostcopyError } from '../errors.js'
import { createControlGroup } from './control-group.js'
import type { ControlGroup, GroupLimits } from './control-group.js'

const pool = '/proc/sys/vm/nr_hugepages'
const hugePageFolder = '/sys/kernel/mm/hugepages/hugepages-2048kB'

/** Attempts to get huge pages: free memory may be fragmented at first. */
const hugePageAttempts = 5

/** 2 MiB pages that are free and not reserved. */
export function availableHugePages(): number {
  const read = (name: string) => Number(readFileSync(`${hugePageFolder}/${name}`, 'utf8'))
  if (!existsSync(hugePageFolder)) return 0
  // Two reads are not atomic, and resv_hugepages may wrap below zero for a moment.
  const free = read('free_hugepages')
  const reserved = read('resv_hugepages')
  return reserved > read('nr_hugepages') ? free : Math.max(0, free - reserved)
}

/**
 * Changes the size of the pool by `count` pages, and returns the actual change. It adds a
 * difference, because another process may lend pages too. It holds a lock, because reading and
 * writing the size are two steps.
 */
function addHugePages(count: number): number {
  const read = () => Number(readFileSync(pool, 'utf8'))
  return withLock('postcopy-huge-pages', () => {
    const before = read()
    writeFileSync(pool, String(Math.max(0, before + count)))
    return read() - before
  })
}

/** Runs `body` while no other process of this package runs under a lock of this name. */
function withLock<T>(name: string, body: () => T): T {
  const path = join(tmpdir(), `${name}.lock`)
  for (;;) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' })
      break
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
      if (isStale(path)) rmSync(path, { force: true })
      else sleepMs(2)
    }
  }
  try {
    return body()
  } finally {
    rmSync(path, { force: true })
  }
}

/** Whether the holder of a lock died without releasing it. */
function isStale(path: string): boolean {
  try {
    const holder = readFileSync(path, 'utf8')
    if (holder === '') return Date.now() - statSync(path).mtimeMs > 5000
    return !existsSync(`/proc/${holder}`)
  } catch {
    return false // it was given back just now
  }
}

/** Sleeps without the event loop, because changes are undone while the process exits. */
export function sleepMs(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

const live = new Set<HostChanges>()

function undoAll(): void {
  for (const changes of live) changes.undo()
}

function undoAndDie(signal: NodeJS.Signals): void {
  undoAll()
  process.removeListener(signal, undoAndDie)
  // If there are other listeners for the signal, they decide when the process ends.
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal)
}

/**
 * The changes that one test or experiment made to the host. {@link HostChanges.undo} undoes them
 * all; so do the exit of the process, SIGINT, SIGTERM and SIGHUP. After SIGKILL they remain.
 */
export class HostChanges {
  readonly #undo: (() => void)[] = []

  constructor() {
    if (live.size === 0) {
      process.on('exit', undoAll)
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, undoAndDie)
    }
    live.add(this)
  }

  /** Adds a function that undoes a change. */
  defer(undo: () => void): void {
    this.#undo.push(undo)
  }

  /**
   * Saves the value of a file below /proc or /sys, and restores it at the end if it has changed.
   * The value of a choice such as `always [madvise] never` is the word in brackets.
   */
  preserve(path: string): void {
    if (!existsSync(path)) return
    const before = settingOf(path)
    this.defer(() => {
      if (settingOf(path) !== before) writeFileSync(path, before)
    })
  }

  /** Writes a setting below /proc or /sys; the old value is restored at the end. */
  set(path: string, value: string | number): void {
    this.preserve(path)
    writeFileSync(path, String(value))
  }

  /** Sets a sysctl by its name, such as `vm.unprivileged_userfaultfd`. */
  sysctl(name: string, value: string | number): void {
    this.set(`/proc/sys/${name.replaceAll('.', '/')}`, value)
  }

  /**
   * Adds `count` pages of 2 MiB to vm.nr_hugepages, and removes as many at the end. Without root it
   * only checks that as many are free.
   *
   * @throws PostcopyError `ERR_HUGE_PAGES` if there is not enough contiguous memory
   */
  lendHugePages(count: number): void {
    if (process.getuid?.() !== 0) {
      const free = availableHugePages()
      if (free >= count) return
      throw new PostcopyError(
        'ERR_HUGE_PAGES',
        `needs ${count} free 2 MiB pages, there are ${free}`,
      )
    }
    let lent = 0
    this.defer(() => {
      if (lent > 0) addHugePages(-lent)
    })
    // Adds all pages even if some are free: another process may have added those for itself.
    for (let attempt = 0; attempt < hugePageAttempts && lent < count; attempt += 1) {
      lent += addHugePages(count - lent)
    }
    if (lent < count && availableHugePages() < count) {
      throw new PostcopyError(
        'ERR_HUGE_PAGES',
        `${count} huge pages: the kernel found only ${lent}`,
      )
    }
  }

  /** Makes an empty folder, removed at the end, after the mounts and swap files below it. */
  folder(): string {
    const path = mkdtempSync(join(tmpdir(), 'postcopy-'))
    this.defer(() => {
      releaseFolder(path)
    })
    return path
  }

  /** Makes a control group that limits memory. Processes still in it at the end are killed. */
  memoryGroup(limitBytes: number, name = `postcopy-${process.pid}-${groups++}`): MemoryGroup {
    const group = createMemoryGroup(name, limitBytes)
    this.defer(() => {
      removeMemoryGroup(group.path)
    })
    return group
  }

  /**
   * Makes a control group with limits, for {@link runConfined}. Processes still in it at the end
   * are killed.
   */
  controlGroup(limits: GroupLimits): ControlGroup {
    const name = `postcopy-${process.pid}-${groups++}`
    return createControlGroup(name, limits, removeMemoryGroup, (undo) => {
      this.defer(undo)
    })
  }

  /** Undoes all changes; may be called twice. Throws the first error after it has tried all. */
  undo(): void {
    const errors: unknown[] = []
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      try {
        undo()
      } catch (error) {
        errors.push(error)
      }
    }
    live.delete(this)
    if (live.size === 0) {
      process.removeListener('exit', undoAll)
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
        process.removeListener(signal, undoAndDie)
      }
    }
    if (errors.length > 0) throw errors[0]
  }

  [Symbol.dispose](): void {
    this.undo()
  }
}

let groups = 0

/** A memory control group, version 1 or 2. */
export interface MemoryGroup {
  path: string
  /** Write a process id to it, or `0` to move the writing process. */
  procsPath: string
}

/** Makes a memory control group below the root of the hierarchy. Needs root. */
export function createMemoryGroup(name: string, limitBytes: number): MemoryGroup {
  const first = existsSync('/sys/fs/cgroup/memory')
  const path = `${first ? '/sys/fs/cgroup/memory' : '/sys/fs/cgroup'}/${name}`
  mkdirSync(path)
  writeFileSync(`${path}/${first ? 'memory.limit_in_bytes' : 'memory.max'}`, String(limitBytes))
  return { path, procsPath: `${path}/cgroup.procs` }
}

/** Kills the processes of a group, waits until they have exited, and removes the group. */
export function removeMemoryGroup(path: string): void {
  for (let attempt = 0; existsSync(path); attempt += 1) {
    for (const pid of readFileSync(`${path}/cgroup.procs`, 'utf8').split('\n')) {
      if (pid !== '') process.kill(Number(pid), 'SIGKILL')
    }
    try {
      rmdirSync(path)
    } catch (error) {
      if (attempt === 50) throw error
      sleepMs(10)
    }
  }
}

/** Removes groups whose names begin with that of `folder`, as children of the lab name them. */
export function removeMemoryGroupsOf(folder: string): void {
  for (const root of ['/sys/fs/cgroup/memory', '/sys/fs/cgroup']) {
    if (!existsSync(root)) continue
    for (const name of readdirSync(root)) {
      if (name.startsWith(basename(folder))) removeMemoryGroup(join(root, name))
    }
  }
}

function releaseFolder(path: string): void {
  removeMemoryGroupsOf(path)
  for (const line of readFileSync('/proc/swaps', 'utf8').split('\n')) {
    const file = line.split(/\s/)[0] ?? ''
    if (file.startsWith(`${path}/`)) execFileSync('swapoff', [file])
  }
  for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n').reverse()) {
    const target = line.split(' ')[1] ?? ''
    if (target.startsWith(`${path}/`)) execFileSync('umount', ['-l', target])
  }
  rmSync(path, { recursive: true, force: true })
}

function settingOf(path: string): string {
  const text = readFileSync(path, 'utf8').trim()
  return /\[(\w+)\]/.exec(text)?.[1] ?? text
}
