/** The layout of userfaultfd messages in {@link Userfaultfd.events}. */

/** Numbers per event in {@link Userfaultfd.events}: type and up to three values. */
export const EVENT_STRIDE = 4

/** First number of an event (`UFFD_EVENT_…`); the comments name the numbers that follow. */
export const UffdEvent = {
  /** flags ({@link FaultFlag}), address, thread id (0 without `THREAD_ID`) */
  PAGEFAULT: 0x12,
  /** descriptor of the child's userfaultfd */
  FORK: 0x13,
  /** from, to, length */
  REMAP: 0x14,
  /** start, end */
  REMOVE: 0x15,
  /** start, end */
  UNMAP: 0x16,
} as const

/** `UFFD_PAGEFAULT_FLAG_…`; a write-protect fault has WRITE and WP. */
export const FaultFlag = { WRITE: 1, WP: 2, MINOR: 4 } as const
