/** The source: its state machine, and the worker it runs in. */
export { Source } from './source.js'
export type { SourceOptions } from './options.js'
export type { Owed } from './source.js'
