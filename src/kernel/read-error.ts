/** Errors of Node's reads, with the same text as those of native ones. */
import { kernelError } from './check.js'
import { pathOf } from './pages.js'

/** The error of a failed read; an error other than a system error is returned unchanged. */
export function readError(
  error: unknown,
  fd: number,
  position: number,
  lengthBytes: number,
): unknown {
  const { errno } = error as NodeJS.ErrnoException
  if (errno === undefined) return error
  const what = `${pathOf(fd)}, ${lengthBytes} bytes at offset ${position}`
  return kernelError(errno, 'pread', what, 'it cannot be read')
}
