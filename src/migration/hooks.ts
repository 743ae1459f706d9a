/** Calls the methods of a machine, so that each error names the method that failed. */
import { MachineError } from '../errors.js'
import type { DeviceState, MigratableMachine } from './machine.js'

export type HookName = Exclude<keyof MigratableMachine, 'blocks' | 'readOnly'>

const MOST_ID_BYTES = 255
const MOST_UINT32 = 2 ** 32 - 1

/**
 * Calls a synchronous hook.
 *
 * @param args - for the message
 * @throws MachineError whose `cause` is what the hook threw, or because it returned a promise
 */
export function callHook<T>(hook: HookName, call: () => T, args = ''): T {
  const told = { call: `${hook}(${args})` }
  let value: T
  try {
    value = call()
  } catch (cause) {
    throw new MachineError(hook, `failed: ${String(cause)}`, { ...told, cause })
  }
  if (!isThenable(value)) return value
  value.then(undefined, () => undefined)
  const text =
    'returned a promise, but must be synchronous: the migration does not wait for a promise'
  throw new MachineError(hook, text, told)
}

/** The same for a hook that returns a promise. */
export async function awaitHook<T>(hook: HookName, call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (cause) {
    throw new MachineError(hook, `failed: ${String(cause)}`, { call: `${hook}()`, cause })
  }
}

/** Checks the result of `saveDevices`, and drops all other properties of its objects. */
export function checkSaved(value: unknown): DeviceState[] | Uint8Array {
  if (value instanceof Uint8Array) return value
  if (!Array.isArray(value)) {
    throw returned('saveDevices', value, 'an array of devices or a Uint8Array of sections')
  }
  return value.map((device: Partial<Record<keyof DeviceState, unknown>> | null, index) => {
    const { idstr, instanceId, version, data } = device ?? {}
    const idBytes = typeof idstr === 'string' ? Buffer.byteLength(idstr) : 0
    if (
      typeof idstr !== 'string' ||
      idBytes < 1 ||
      idBytes > MOST_ID_BYTES ||
      !isUint32(instanceId) ||
      !isUint32(version) ||
      !(data instanceof Uint8Array)
    ) {
      const wanted = `idstr of 1 to ${MOST_ID_BYTES} bytes, 32-bit instanceId and version, data as Uint8Array`
      throw returned('saveDevices', `device ${index} (${String(idstr)}) without: ${wanted}`)
    }
    return { idstr, instanceId, version, data }
  })
}

/** Checks how many of the given bytes `loadDevice` has taken. */
export function checkTaken(value: unknown, given: number, idstr: string): number {
  if (Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= given) {
    return Number(value)
  }
  throw returned('loadDevice', value, `bytes of "${idstr}", 0 to ${given}`)
}

export function checkThreadIds(value: unknown): number[] {
  if (Array.isArray(value) && value.every((id): id is number => isUint32(id))) return value
  throw returned('vcpuThreadIds', value, 'an array of thread ids')
}

function returned(hook: HookName, value: unknown, wanted?: string): MachineError {
  const text = `returned ${String(value)}${wanted === undefined ? '' : `, not ${wanted}`}`
  return new MachineError(hook, text, { call: `${hook}()` })
}

function isUint32(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) <= MOST_UINT32
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    'then' in value &&
    typeof value.then === 'function'
  )
}
