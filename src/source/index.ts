/** The source: its state machine, and the worker it runs in. */
export { Source } from './source.js'
export type { Owed, SourceOptions } from './source.js'
