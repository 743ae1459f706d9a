/** QMP's commands: their arguments, and the function of the target that each needs. */
import type { ParameterValue } from '../../migration/index.js'
import {
  type Checked,
  type ArgumentFields,
  array,
  boolean,
  object,
  oneOf,
  optional,
  required,
  string,
  uint64,
} from './arguments.js'
import type { QmpControl } from './target.js'
import { versionInfo } from './version.js'

export interface QmpCommand {
  readonly name: string
  /** Whether the target has the functions that it needs. */
  isThere(control: QmpControl): boolean
  /** Runs the command, after checking the arguments. */
  run(control: QmpControl, args: Readonly<Record<string, unknown>>): unknown
}

type Capable<K extends keyof QmpControl> = QmpControl & Required<Pick<QmpControl, K>>

/** @param run - its result is the answer; undefined becomes `{}` */
function command<K extends keyof QmpControl, F extends ArgumentFields>(
  name: string,
  needs: readonly K[],
  fields: F | ((control: Capable<K>) => F),
  run: (control: Capable<K>, args: Checked<F>) => unknown,
): QmpCommand {
  const isThere = (control: QmpControl): control is Capable<K> =>
    needs.every((need) => control[need] !== undefined)
  return {
    name,
    isThere,
    run: (control, args) => {
      if (!isThere(control)) return undefined
      const wanted = typeof fields === 'function' ? fields(control) : fields
      return run(control, object(wanted)(args, ''))
    },
  }
}

export const qmpCommands: readonly QmpCommand[] = [
  command('query-commands', [], {}, (control) =>
    [{ name: 'qmp_capabilities' }, ...qmpCommands.filter((row) => row.isThere(control))].map(
      ({ name }) => ({ name }),
    ),
  ),
  command('query-version', [], {}, () => versionInfo()),
  command('query-status', [], {}, (control) => control.queryStatus()),
  command('stop', ['stop'], {}, (control) => control.stop()),
  command('cont', ['cont'], { 'x-force': optional(boolean) }, (control, args) =>
    control.cont({ force: args['x-force'] === true }),
  ),
  command('quit', [], { 'x-force': optional(boolean) }, (control, args) =>
    control.quit({ force: args['x-force'] === true }),
  ),
  // QEMU accepts `detach` for old clients, and ignores it.
  command(
    'migrate',
    ['migrate', 'resumeMigration'],
    { uri: required(string), detach: optional(boolean), resume: optional(boolean) },
    (control, { uri, resume }) =>
      resume === true ? control.resumeMigration(uri) : control.migrate(uri),
  ),
  command(
    'migrate-recover',
    ['migrateRecover'],
    { uri: required(string) },
    async (control, { uri }) => {
      await control.migrateRecover(uri)
    },
  ),
  command(
    'migrate-incoming',
    ['migrateIncoming'],
    { uri: required(string) },
    async (control, { uri }) => {
      // The address is `socket-address` of query-migrate.
      await control.migrateIncoming(uri)
    },
  ),
  command('migrate-start-postcopy', ['startPostcopy'], {}, (control) => control.startPostcopy()),
  command('migrate_cancel', ['cancel'], {}, (control) => control.cancel()),
  command('migrate-pause', ['pause'], {}, (control) => control.pause()),
  command('query-migrate', [], {}, (control) => control.queryMigrate()),
  command(
    'migrate-set-capabilities',
    ['setCapabilities', 'queryCapabilities'],
    (control) => ({
      capabilities: required(
        array(
          object({
            capability: required(oneOf(Object.keys(control.queryCapabilities()))),
            state: required(boolean),
          }),
        ),
      ),
    }),
    (control, { capabilities }) =>
      control.setCapabilities(
        Object.fromEntries(capabilities.map(({ capability, state }) => [capability, state])),
      ),
  ),
  command('query-migrate-capabilities', ['queryCapabilities'], {}, (control) =>
    Object.entries(control.queryCapabilities()).map(([capability, state]) => ({
      capability,
      state,
    })),
  ),
  command(
    'migrate-set-parameters',
    ['setParameters', 'queryParameters'],
    (control): Record<string, ReturnType<typeof optional<ParameterValue>>> =>
      Object.fromEntries(
        Object.entries(control.queryParameters()).map(([name, value]) => [
          name,
          optional<ParameterValue>(typeof value === 'string' ? string : uint64),
        ]),
      ),
    (control, args) =>
      control.setParameters(
        Object.fromEntries(
          Object.entries(args).flatMap(([name, value]) =>
            value === undefined ? [] : [[name, value]],
          ),
        ),
      ),
  ),
  command('query-migrate-parameters', ['queryParameters'], {}, (control) =>
    control.queryParameters(),
  ),
]
