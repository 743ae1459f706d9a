/** A VM that is kept in files, whatever their format: what can be resumed. */
import type { MigratableMachine } from '../migration/index.js'
import type { PageSource, PageSourceBlock } from '../sources/index.js'
import type { WorkingSetOwner } from './working-set.js'

/** A {@link ParkedVm} or a {@link SavedVm}. It never runs here. */
export interface StoredVm extends MigratableMachine, PageSource, WorkingSetOwner {
  readonly blocks: readonly PageSourceBlock[]
  /** The FULL sections of all devices. */
  saveDevices(): Uint8Array
  /** False for the spill of a source, which has only the pages that were owed. */
  readonly isWhole: boolean
}
