/** How a command prints the warnings of the library: one line each, as its other messages. */
import { output } from './output.js'

/** Leaves the warnings of Node and of other packages as they are. */
export function printWarnings(): void {
  const others = process.listeners('warning')
  process.removeAllListeners('warning')
  process.on('warning', (warning) => {
    const { code } = warning as NodeJS.ErrnoException
    if (code?.startsWith('POSTCOPY_') === true) output.note(`warning: ${warning.message} [${code}]`)
    else for (const other of others) other.call(process, warning)
  })
}
