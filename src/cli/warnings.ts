/** Prints the library's warnings like the command's other messages, one line each. */
import { output } from './output.js'

/** Leaves the warnings of Node and of other packages unchanged. */
export function printWarnings(): void {
  const others = process.listeners('warning')
  process.removeAllListeners('warning')
  process.on('warning', (warning) => {
    const { code } = warning as NodeJS.ErrnoException
    if (code?.startsWith('POSTCOPY_') === true) output.note(`warning: ${warning.message} [${code}]`)
    else for (const other of others) other.call(process, warning)
  })
}
