/** Resolves faults from JavaScript, for experiments that examine the messages. */
import { setTimeout as sleep } from 'node:timers/promises'
import { PostcopyError } from '../errors.js'
import { Mode } from './raw-userfaultfd.js'
import type { Message, RawUserfaultfd } from './raw-userfaultfd.js'
import type { LabThread } from '../host/index.js'

export type Fault = Extract<Message, { event: 'PAGEFAULT' }>

export function isFault(message: Message): message is Fault {
  return message.event === 'PAGEFAULT'
}

/** Waits for messages; returns fewer than `count` after the timeout. */
export async function awaitMessages(
  uffd: RawUserfaultfd,
  count: number,
  timeoutMs = 2000,
): Promise<Message[]> {
  const messages: Message[] = []
  const deadline = Date.now() + timeoutMs
  while (messages.length < count && Date.now() < deadline) {
    messages.push(...uffd.read(count - messages.length))
    if (messages.length < count) await sleep(1)
  }
  return messages
}

/** Waits until a message can be read, without reading it: the faulting thread sleeps by then. */
export async function untilPending(uffd: RawUserfaultfd, timeoutMs = 2000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (uffd.poll() !== 1) {
    if (Date.now() > deadline) {
      throw new PostcopyError('ERR_LAB_TIMEOUT', `no message within ${timeoutMs} ms`)
    }
    await sleep(1)
  }
  // The message can be read a moment before its thread sleeps.
  await sleep(10)
}

/** Waits for one fault. */
export async function awaitFault(uffd: RawUserfaultfd): Promise<Fault> {
  const [message] = await awaitMessages(uffd, 1)
  if (message?.event === 'PAGEFAULT') return message
  throw new PostcopyError(
    'ERR_LAB_TIMEOUT',
    `expected a fault, got ${message?.event ?? 'no message'}`,
  )
}

/** Passes every message to `resolve` until the thread has ended; returns the messages. */
export async function serveUntilDone(
  uffd: RawUserfaultfd,
  thread: LabThread,
  resolve: (message: Message) => void,
  timeoutMs = 5000,
): Promise<Message[]> {
  const all: Message[] = []
  const deadline = Date.now() + timeoutMs
  while (!thread.finished) {
    const messages = uffd.read()
    messages.forEach(resolve)
    all.push(...messages)
    if (Date.now() > deadline) await thread.done(0)
    if (messages.length === 0) await sleep(1)
  }
  return all
}

/** Registers, or throws; for experiments that do not examine registration. */
export function mustRegister(
  uffd: RawUserfaultfd,
  memory: { address: number; lengthBytes: number },
  mode: number = Mode.MISSING,
): void {
  const { errno } = uffd.register(memory.address, memory.lengthBytes, mode)
  if (errno !== 'ok') throw new PostcopyError(errno, `UFFDIO_REGISTER: ${errno}`)
}

/** A page filled with one byte. */
export function pageOf(value: number, bytes = 4096): Uint8Array {
  return new Uint8Array(bytes).fill(value)
}
