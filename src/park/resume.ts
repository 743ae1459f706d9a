/** Sends a parked VM to a QEMU that waits for it, by postcopy from the first moment. */
import type { MigrationOptions } from '../migration/index.js'
import { Source, type SourceOptions } from '../source/index.js'
import type { ParkedVm } from './parked-vm.js'
import type { WorkingSet } from './working-set.js'

export interface ResumeOptions extends MigrationOptions {
  /** `tcp:HOST:PORT` or `unix:PATH` of a QEMU with `-incoming` and the capability `postcopy-ram`. */
  uri: string
  /** Before the package is sent, abort cancels; later it does nothing. */
  signal?: AbortSignal
  /**
   * Pages that clones have asked for before: they are pushed as soon as the devices are loaded, in that
   * order, whatever `x-push-after-quiet-ms` says. What this clone asks for besides is kept by
   * {@link WorkingSet.save}. Default: none.
   */
  workingSet?: WorkingSet
}

/**
 * Starts a clone of a parked VM in another QEMU. May be done any number of times, at once or one
 * after the other; `vm` must stay open until the migration is over.
 *
 * The state `postcopy-active` says that the guest's devices are loaded and it runs. What breaks
 * later leads to `postcopy-paused`: the clone has not all of its memory and waits for it, while
 * the parked VM is as it was.
 *
 * @throws PostcopyError as {@link Source.migrate}; `ERR_WORKING_SET_FOREIGN` for that of another VM
 */
export function resume(vm: ParkedVm, options: ResumeOptions): Source {
  return Source.migrate(vm, {
    ...sourceOptions(vm, options),
    dirtyLog: 'none',
    postcopyAtOnce: true,
  })
}

/**
 * Takes the place of a source that is gone, for a destination that is `postcopy-paused`: sends what
 * it misses. `vm` is what that source has spilled (opened with `forRecovery`), or the parked VM that
 * it was resumed from.
 *
 * A destination that misses a page which is not in `vm` is refused by `ERR_PEER_BITMAP`.
 *
 * @throws PostcopyError as {@link resume}
 */
export function recover(vm: ParkedVm, options: ResumeOptions): Source {
  return Source.takeOver(vm, sourceOptions(vm, options))
}

function sourceOptions(vm: ParkedVm, { workingSet, ...options }: ResumeOptions): SourceOptions {
  return {
    ...options,
    capabilities: { ...options.capabilities, 'postcopy-ram': true },
    ...(workingSet === undefined ? {} : { pageOrder: workingSet.begin(vm) }),
  }
}
