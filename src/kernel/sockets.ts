/** Socket calls that Node lacks, on plain descriptors. */
import { check } from './check.js'
import { native } from './load.js'

/** `tcp(7)`, `socket(7)`. Buffer sizes in bytes (Linux doubles them), `TCP_USER_TIMEOUT` in ms. */
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
 * Sends bytes without waiting, and without the objects that Node allocates for each write.
 *
 * @returns how many bytes the kernel took; 0 if it takes none now, or the connection is broken
 * @see send(2), `MSG_DONTWAIT`
 */
export function sendNow(fd: number, bytes: Uint8Array): number {
  return Math.max(0, native().socketSend(fd, bytes))
}

/**
 * Polls without sleeping until one of two descriptors is readable or the time is over. Nothing else
 * runs on this thread meanwhile: give microseconds, not milliseconds.
 *
 * @returns whether a descriptor is readable; false also if poll(2) fails
 * @see poll(2)
 */
export function spinUntilReadable(fd: number, otherFd: number, microseconds: number): boolean {
  return native().fdSpin(fd, otherFd, microseconds) > 0
}

/** Bytes in the send queue that the peer has not acknowledged (`SIOCOUTQ`). */
export function outstandingBytes(fd: number): number {
  return check(native().socketOutstanding(fd), 'ioctl', () => `${fd}, SIOCOUTQ`)
}

/**
 * Process id of the peer of a unix socket: of the process that listens there, or has connected. 0
 * if it is in another pid namespace; -1 or 0 for another kind of socket.
 *
 * @see unix(7), `SO_PEERCRED`
 */
export function peerProcessId(fd: number): number {
  return check(native().socketPeerPid(fd), 'getsockopt', () => `${fd}, SO_PEERCRED`)
}

/**
 * Makes a stream socket that listens on `path`. The file has `mode`, less the umask, from the
 * start; Node could set it only afterwards. Close the socket with {@link closeFd}, or pass it to a
 * server.
 *
 * @param mode - permission bits, as in `0o600`
 * @throws KernelError `EADDRINUSE` if the file exists, `ENAMETOOLONG` for more than 107 bytes
 * @see unix(7)
 */
export function listenUnixSocket(path: string, mode: number): number {
  return check(native().socketListenUnix(path, mode), 'bind', () => path)
}

/** Duplicates `fd`, close-on-exec. Close the duplicate with {@link closeFd}. */
export function duplicateFd(fd: number): number {
  return check(native().fdDuplicate(fd), 'fcntl', () => `${fd}, F_DUPFD_CLOEXEC`)
}

export function closeFd(fd: number): void {
  check(native().fdClose(fd), 'close', () => String(fd))
}
