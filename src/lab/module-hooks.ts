/** Lets an experiment file anywhere import `postcopy/lab`, and be TypeScript. */
import { register } from 'node:module'
import { compiledModule } from '../kernel/internal.js'

/** For the process of an experiment; modules that are loaded already stay as they are. */
export function registerHooks(): void {
  register(compiledModule('lab/loader.js'))
}
