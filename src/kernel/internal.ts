/** For the other folders of `src`; not part of the public interface. */
export { buildAdvice } from './build-advice.js'
export { check, checkOptions, closedError } from './check.js'
export { memoryLimit } from './control-groups.js'
export { exitWithParkedThreads } from './exit.js'
export { featuresFromMask, featureSince, featuresToMask } from './features.js'
export { builtFile } from './load.js'
export { raiseThreadPriority } from './thread-priority.js'
export { bundledEntry, compiledModule, packageInfo } from './package-info.js'
