/** Finds and loads the addons on first use: decoding a stream needs no built addon. */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { PostcopyError } from '../errors.js'
import { buildAdvice } from './build-advice.js'
import type { NativeAddon } from './native.js'
import { packageRoot } from './package-info.js'

/**
 * The path of a file built from `native/`: in `build/Release`, or in the folder that
 * `POSTCOPY_NATIVE_DIR` names (for builds with sanitizers).
 */
export function builtFile(name: string): string {
  return join(process.env['POSTCOPY_NATIVE_DIR'] ?? join(packageRoot, 'build/Release'), name)
}

/**
 * Loads `postcopy.node`, `vcpu.node` or `lab.node`; see {@link builtFile}.
 *
 * @returns the addon's exports; the caller casts them to their type
 * @throws PostcopyError `ERR_ADDON_MISSING`: it was not built. `ERR_ADDON_LOAD`: it does not load
 */
export function loadAddon(name: 'postcopy' | 'vcpu' | 'lab'): unknown {
  const path = builtFile(`${name}.node`)
  if (!existsSync(path)) {
    throw new PostcopyError(
      'ERR_ADDON_MISSING',
      `the addon ${path} does not exist: ${buildAdvice()}`,
    )
  }
  try {
    return createRequire(import.meta.url)(path) as unknown
  } catch (cause) {
    throw new PostcopyError(
      'ERR_ADDON_LOAD',
      `the addon ${path} does not load: ${String(cause)}; if it was built for another system, ${buildAdvice(true)}`,
      { cause },
    )
  }
}

let loaded: NativeAddon | undefined

/** The addon `postcopy.node`. */
export function native(): NativeAddon {
  return (loaded ??= loadAddon('postcopy') as NativeAddon)
}
