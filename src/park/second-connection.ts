/**
 * A connection that comes while a VM is being parked. Its first bytes tell what it is (protocol
 * section 8): another source, a channel of multifd, or one of postcopy-preempt, which is silent
 * for as long as nobody asks for pages, and nobody does here.
 */
import { ConnectionError } from '../errors.js'
import type { Channel } from '../net/index.js'
import { MULTIFD_MAGIC, RamFlag } from '../stream/index.js'

/** A u64: all that a preempt channel ever says to us, at its end. */
const MARK_BYTES = 8

export interface SecondConnectionEvents {
  /** The source sends pages on further channels: it cannot be parked. */
  multifd(): void
  closed(): void
}

/** Holds a silent connection, and turns a talkative one away. */
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
