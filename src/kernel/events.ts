/**
 * The layout of userfaultfd messages in {@link Userfaultfd.events}. The fields are indexes from the
 * start of a message: `events[index * EVENT_STRIDE + FaultEvent.address]`.
 */
import { rowOf } from './layout.js'

/**
 * Fields of a page fault: flags are {@link FaultFlag}; the thread id is 0 without `THREAD_ID`. The
 * type is in the same place in all messages.
 */
export const FaultEvent = rowOf('faultEvent', ['type', 'flags', 'address', 'threadId'])
/** Fields of FORK: descriptor of the child's userfaultfd. */
export const ForkEvent = rowOf('forkEvent', ['type', 'childFd'])
/** Fields of REMAP. */
export const RemapEvent = rowOf('remapEvent', ['type', 'from', 'to', 'length'])
/** Fields of REMOVE and UNMAP. */
export const RangeEvent = rowOf('rangeEvent', ['type', 'start', 'end'])

/** Numbers per event in {@link Userfaultfd.events}, whatever its type. */
export const EVENT_STRIDE = FaultEvent.stride

/** The type of an event (`UFFD_EVENT_…`). */
export const UffdEvent = {
  /** {@link FaultEvent} */
  PAGEFAULT: 0x12,
  /** {@link ForkEvent} */
  FORK: 0x13,
  /** {@link RemapEvent} */
  REMAP: 0x14,
  /** {@link RangeEvent} */
  REMOVE: 0x15,
  /** {@link RangeEvent} */
  UNMAP: 0x16,
} as const

/** `UFFD_PAGEFAULT_FLAG_…`; a write-protect fault has WRITE and WP. */
export const FaultFlag = { WRITE: 1, WP: 2, MINOR: 4 } as const
