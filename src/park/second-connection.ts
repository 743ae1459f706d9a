/**
 * A further connection while a VM is being parked. Its first bytes show what it is (protocol
 * section 8): another source, a multifd channel, or a postcopy-preempt channel. The last is silent
 * here, because parking requests no pages.
 */
import { ConnectionError } from '../errors.js'
import type { Channel } from '../net/index.js'
import { MULTIFD_MAGIC, RamFlag } from '../stream/index.js'

/** The end mark, a u64: all that a preempt channel ever sends here. */
const MARK_BYTES = 8

export interface SecondConnectionEvents {
  /** The source sends pages on multifd channels: it cannot be parked. */
  multifd(): void
  closed(): void
}

/** Holds a connection that is silent or sends the end mark; rejects any other. */
export function holdSecondConnection(channel: Channel, events: SecondConnectionEvents): void {
  let isKnown = false
  const turnAway = (): void => {
    channel.destroy(new ConnectionError('ERR_CONNECTION_BUSY', 'a VM is being parked'))
  }
  channel.start({
    consume: (bytes, start, end) => {
      if (isKnown) return end - start
      if (end - start < MARK_BYTES) return 0
      isKnown = true
      const view = new DataView(bytes.buffer, bytes.byteOffset + start, MARK_BYTES)
      const isEndMark = view.getUint32(0) === 0 && view.getUint32(4) === RamFlag.endOfSection
      if (view.getUint32(0) === MULTIFD_MAGIC) events.multifd()
      if (!isEndMark) turnAway()
      return end - start
    },
    end: () => channel.destroy(),
    close: () => events.closed(),
  })
}
