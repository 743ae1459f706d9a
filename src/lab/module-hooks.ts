/** Lets an experiment file in any folder import `postcopy/lab` and be written in TypeScript. */
import { register } from 'node:module'
import { compiledModule } from '../kernel/internal.js'

/** Call it in the process of an experiment; modules already loaded are not affected. */
export function registerHooks(): void {
  register(compiledModule('lab/loader.js'))
}
