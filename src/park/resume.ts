/** Sends a parked VM to a waiting QEMU, by postcopy from the start. */
import type { MigrationOptions } from '../migration/index.js'
import { Source, type SourceOptions } from '../source/index.js'
import type { StoredVm } from './stored-vm.js'
import type { WorkingSet } from './working-set.js'

export interface ResumeOptions extends MigrationOptions {
  /**
   * `tcp:HOST:PORT` or `unix:PATH` of a QEMU with `-incoming` and the capability `postcopy-ram`.
   */
  uri: string
  /** Abort cancels before the package is sent; later it does nothing. */
  signal?: AbortSignal
  /**
   * Pages that earlier clones requested. They are pushed in that order as soon as the devices are
   * loaded, whatever `x-push-after-quiet-ms` is. {@link WorkingSet.save} adds the other pages that
   * this clone requests. Default: none.
   */
  workingSet?: WorkingSet
}

/**
 * Starts a clone of a parked or saved VM in another QEMU. May be called any number of times, concurrently or
 * one after the other. `vm` must stay open until the migration is over.
 *
 * In the state `postcopy-active` the guest's devices are loaded and it runs. A later failure leads
 * to `postcopy-paused`: the clone waits for the rest of its memory, and the parked VM is unchanged.
 *
 * @throws PostcopyError as {@link Source.migrate}; `ERR_WORKING_SET_FOREIGN` for that of another VM
 */
export function resume(vm: StoredVm, options: ResumeOptions): Source {
  return Source.migrate(vm, {
    ...sourceOptions(vm, options),
    dirtyLog: 'none',
    postcopyAtOnce: true,
  })
}

/**
 * Replaces a lost source for a destination that is `postcopy-paused`: sends the pages that it
 * misses. `vm` is the spill of that source (opened with `forRecovery`), or the parked VM that was
 * resumed.
 *
 * A destination that misses a page which is not in `vm` is rejected with `ERR_PEER_BITMAP`.
 *
 * @throws PostcopyError as {@link resume}
 */
export function recover(vm: StoredVm, options: ResumeOptions): Source {
  return Source.takeOver(vm, sourceOptions(vm, options))
}

function sourceOptions(vm: StoredVm, { workingSet, ...options }: ResumeOptions): SourceOptions {
  return {
    ...options,
    capabilities: { ...options.capabilities, 'postcopy-ram': true },
    ...(workingSet === undefined ? {} : { pageOrder: workingSet.begin(vm) }),
  }
}
