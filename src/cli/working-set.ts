/** The working set of a resume: `--working-set FILE`, `--no-working-set`, or the one in DIR. */
import { errorToRecord } from '../errors.js'
import { type StoredVm, type TrustOptions, WorkingSet } from '../park/index.js'
import type { StatusLine } from './status-line.js'

/**
 * Opens the working set. An unusable file is an error only if the user has named it; otherwise the
 * resume continues without one.
 *
 * @param choice - a file; false: none
 * @throws PostcopyError as {@link WorkingSet.open}, for a file that the user has named
 */
export function openWorkingSet(
  vm: StoredVm,
  choice: string | false | undefined,
  trust: TrustOptions,
  status: StatusLine,
): WorkingSet | undefined {
  if (choice === false) return undefined
  if (choice !== undefined) return WorkingSet.open(vm, { ...trust, file: choice })
  // A spill is used only once.
  if (!vm.isWhole) return undefined
  return WorkingSet.open(vm, {
    ...trust,
    onUnusable: ({ code, message }) => {
      status.note(`the working set cannot be used, and will be replaced: ${message} [${code}]`)
    },
  })
}

/** Saves what was learned, however the resume has ended. A failure is only reported. */
export function saveWorkingSet(workingSet: WorkingSet | undefined, status: StatusLine): void {
  if (workingSet === undefined) return
  try {
    const added = workingSet.save()
    if (added === 0) return
    const pages = added === 1 ? 'page' : 'pages'
    status.note(`added ${added} ${pages} to the working set ${workingSet.file}`)
  } catch (error) {
    const { code, message } = errorToRecord(error)
    status.note(`the working set was not written: ${message} [${code}]`)
  }
}
