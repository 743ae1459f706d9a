/** What Node lacks for sockets, on plain descriptors. */
import { check } from './check.js'
import { native } from './load.js'

/** `tcp(7)` and `socket(7)`. Buffer sizes in bytes (Linux doubles them), `TCP_USER_TIMEOUT` in ms. */
export type SocketOption =
  | 'SO_SNDBUF'
  | 'SO_RCVBUF'
  | 'TCP_NODELAY'
  | 'TCP_QUICKACK'
  | 'TCP_USER_TIMEOUT'
  | 'TCP_NOTSENT_LOWAT'

/**
 * @throws KernelError `EBADF`, `ENOTSOCK`; `EOPNOTSUPP` for a TCP option on another kind of socket
 * @see setsockopt(2)
 */
export function setSocketOption(fd: number, option: SocketOption, value: number): void {
  check(native().socketSet(fd, option, value), 'setsockopt', () => `${fd}, ${option}, ${value}`)
}

/** @see getsockopt(2) */
export function getSocketOption(fd: number, option: SocketOption): number {
  return check(native().socketGet(fd, option), 'getsockopt', () => `${fd}, ${option}`)
}

/**
 * Gives bytes to the kernel without waiting, and without what Node keeps for each write.
 *
 * @returns how many it took; 0 where it takes none now, or the connection is broken
 * @see send(2), `MSG_DONTWAIT`
 */
export function sendNow(fd: number, bytes: Uint8Array): number {
  return Math.max(0, native().socketSend(fd, bytes))
}

/**
 * Looks again and again, without sleeping, until one of two descriptors is readable. Nothing else
 * runs on this thread meanwhile: microseconds, not milliseconds.
 *
 * @returns whether one is; false also where poll(2) fails
 * @see poll(2)
 */
export function spinUntilReadable(fd: number, otherFd: number, microseconds: number): boolean {
  return native().fdSpin(fd, otherFd, microseconds) > 0
}

/** Bytes that the peer's kernel has not acknowledged (`SIOCOUTQ`). */
export function outstandingBytes(fd: number): number {
  return check(native().socketOutstanding(fd), 'ioctl', () => `${fd}, SIOCOUTQ`)
}

/**
 * A stream socket that listens on `path`. The file has `mode`, less the umask, from its first
 * moment: Node can change it only afterwards. Close it with {@link closeFd}, or give it to a
 * server.
 *
 * @param mode - permission bits, as in `0o600`
 * @throws KernelError `EADDRINUSE` where the file is there, `ENAMETOOLONG` beyond 107 bytes
 * @see unix(7)
 */
export function listenUnixSocket(path: string, mode: number): number {
  return check(native().socketListenUnix(path, mode), 'bind', () => path)
}

/** Another descriptor for what `fd` stands for, close-on-exec. Close it with {@link closeFd}. */
export function duplicateFd(fd: number): number {
  return check(native().fdDuplicate(fd), 'fcntl', () => `${fd}, F_DUPFD_CLOEXEC`)
}

export function closeFd(fd: number): void {
  check(native().fdClose(fd), 'close', () => String(fd))
}
