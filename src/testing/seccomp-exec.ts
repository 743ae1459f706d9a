/**
 * `node seccomp-exec.js ERRNO SYSCALL,… COMMAND ARGUMENT…`: installs a seccomp filter that refuses
 * system calls, and executes the command, which inherits the filter.
 *
 * @see seccomp(2)
 */
import { constants } from 'node:os'
import { addressOf, cString, must, syscall, syscallNumber } from '../host/index.js'

const PR_SET_SECCOMP = 22
const PR_SET_NO_NEW_PRIVS = 38
const SECCOMP_MODE_FILTER = 2
const F_SETFD = 2
const SECCOMP_RET_ERRNO = 0x00050000
const SECCOMP_RET_ALLOW = 0x7fff0000
/** Instructions of classic BPF: load a word of `seccomp_data`, jump if equal, return. */
const LOAD = 0x20
const JUMP_IF_EQUAL = 0x15
const RETURN = 0x06
const INSTRUCTION_BYTES = 8

/** `seccomp_data` begins with the number of the system call. */
function filter(numbers: readonly number[], errno: number): BigUint64Array {
  const program: [code: number, ifTrue: number, ifFalse: number, value: number][] = [
    [LOAD, 0, 0, 0],
    // If equal, jump to the last instruction.
    ...numbers.map(
      (number, index) =>
        [JUMP_IF_EQUAL, numbers.length - index, 0, number] as [number, number, number, number],
    ),
    [RETURN, 0, 0, SECCOMP_RET_ALLOW],
    [RETURN, 0, 0, SECCOMP_RET_ERRNO | errno],
  ]
  const words = new BigUint64Array(program.length)
  const view = new DataView(words.buffer)
  for (const [index, [code, ifTrue, ifFalse, value]] of program.entries()) {
    const at = index * INSTRUCTION_BYTES
    view.setUint16(at, code, true)
    view.setUint8(at + 2, ifTrue)
    view.setUint8(at + 3, ifFalse)
    view.setUint32(at + 4, value, true)
  }
  return words
}

/** An array of pointers to strings, ended by a null pointer; `kept` keeps the strings alive. */
function stringList(strings: readonly string[], kept: unknown[]): BigUint64Array {
  const bytes = strings.map(cString)
  kept.push(bytes)
  return BigUint64Array.from([...bytes.map((each) => BigInt(addressOf(each))), 0n])
}

const [errno = '', syscalls = '', ...command] = process.argv.slice(2)
const number = Object.entries(constants.errno).find(([name]) => name === errno)?.[1]
if (number === undefined) throw new TypeError(`no errno ${errno}`)
const program = filter(syscalls.split(',').map(syscallNumber), number)
const description = BigUint64Array.of(BigInt(program.length), BigInt(addressOf(program)))
const kept: unknown[] = []
// env(1) searches PATH for the command, as a shell does.
const path = cString('/usr/bin/env')
const args = stringList(['env', '--', ...command], kept)
const env = stringList(
  Object.entries(process.env).map(([name, value]) => `${name}=${value ?? ''}`),
  kept,
)
// Node marks its standard streams close-on-exec; the command needs them.
for (const fd of [0, 1, 2]) must(syscall('fcntl', fd, F_SETFD, 0), 'F_SETFD')
must(syscall('prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0), 'no_new_privs')
must(syscall('prctl', PR_SET_SECCOMP, SECCOMP_MODE_FILTER, description), 'seccomp')
must(syscall('execve', path, args, env), `execve ${kept.length}`)
