/**
 * One client's session, without its socket: values in, messages out.
 *
 * ```
 * greeting ── negotiation: qmp_capabilities and nothing else ── commands, answers, events
 * ```
 */
import { array, isObject, object, oneOf, optional } from './arguments.js'
import { qmpCommands } from './commands.js'
import { QmpError, describeError } from './errors.js'
import type { JsonPiece } from './json-splitter.js'
import type { QmpControl } from './target.js'
import { versionInfo } from './version.js'

export type QmpMessage = Readonly<Record<string, unknown>>

const NEGOTIATION = 'qmp_capabilities'

/** None: every command is answered before the next one is processed. */
const capabilities: readonly string[] = []
const negotiationArguments = object({ enable: optional(array(oneOf(capabilities))) })

interface Request {
  readonly name: string
  readonly args: Readonly<Record<string, unknown>>
}

export class QmpSession {
  readonly #control: QmpControl
  #negotiated = false

  constructor(control: QmpControl) {
    this.#control = control
  }

  /** Whether the client gets events. */
  get negotiated(): boolean {
    return this.#negotiated
  }

  greeting(): QmpMessage {
    return { QMP: { version: versionInfo(), capabilities } }
  }

  /** Never rejects: an error is an answer, with the `id` of the request. */
  async answer(piece: JsonPiece): Promise<QmpMessage> {
    const id =
      'value' in piece && isObject(piece.value) && Object.hasOwn(piece.value, 'id')
        ? { id: piece.value['id'] }
        : {}
    try {
      if ('error' in piece) throw new QmpError(piece.error)
      return { return: (await this.#run(parseRequest(piece.value))) ?? {}, ...id }
    } catch (error) {
      return { error: describeError(error), ...id }
    }
  }

  #run({ name, args }: Request): unknown {
    if (!this.#negotiated) {
      if (name !== NEGOTIATION) {
        throw new QmpError(
          `Expecting capabilities negotiation with '${NEGOTIATION}'`,
          'CommandNotFound',
        )
      }
      negotiationArguments(args, '')
      this.#negotiated = true
      return undefined
    }
    if (name === NEGOTIATION) {
      throw new QmpError(
        'Capabilities negotiation is already complete, command ignored',
        'CommandNotFound',
      )
    }
    const command = qmpCommands.find((row) => row.name === name && row.isThere(this.#control))
    if (command === undefined) {
      throw new QmpError(`The command ${name} has not been found`, 'CommandNotFound')
    }
    return command.run(this.#control, args)
  }
}

function parseRequest(value: unknown): Request {
  if (!isObject(value)) throw new QmpError('QMP input must be a JSON object')
  for (const name of Object.keys(value)) {
    if (name !== 'execute' && name !== 'arguments' && name !== 'id') {
      throw new QmpError(`QMP input member '${name}' is unexpected`)
    }
  }
  if (!Object.hasOwn(value, 'execute')) throw new QmpError("QMP input lacks member 'execute'")
  const { execute, arguments: args = {} } = value
  if (typeof execute !== 'string') {
    throw new QmpError("QMP input member 'execute' must be a string")
  }
  if (!isObject(args)) throw new QmpError("QMP input member 'arguments' must be an object")
  return { name: execute, args }
}
