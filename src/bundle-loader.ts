/**
 * Runs the bundled programs (`dist/bundle`): the command and the workers. Bundled on its own, as
 * `dist/bundle/loader.js`. `scripts/bundle.mjs` makes the packs.
 *
 * A pack is a script with the modules of a program. A module is evaluated when one of its exports is
 * first used. V8's code cache spares the compilation. A cache is used only by the V8 that it was made
 * for: its directory has the tag of V8's version and flags, and V8 checks both again. Without a cache,
 * the pack is compiled.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type * as v8 from 'node:v8'
import { Script } from 'node:vm'

interface PackedModule {
  exports: object
}

type Evaluate = (
  module: PackedModule,
  require: (name: string) => unknown,
  importModule: (name: string) => Promise<unknown>,
  /** Of the compiled module in `dist/src`. */
  url: string,
) => void

export type Modules = Readonly<Record<string, Evaluate>>

export class Pack {
  readonly #root: string
  readonly #path: string
  readonly #early: Modules
  readonly #evaluated = new Map<string, PackedModule>()
  readonly #require: NodeJS.Require
  #modules: Modules | undefined

  /**
   * @param root - `dist/bundle`
   * @param file - the name of the pack in `root`
   * @param early - modules that are needed before the pack, which takes some time to load
   */
  constructor(root: string, file: string, early: Modules = {}) {
    this.#root = root
    this.#path = join(root, file)
    this.#early = early
    this.#require = createRequire(this.#path)
  }

  /** The file with the code cache for this V8 and its flags. */
  get cachePath(): string {
    // Loaded here, because it is slow.
    const { cachedDataVersionTag } = this.#require('node:v8') as typeof v8
    const tag = cachedDataVersionTag().toString(16)
    return join(this.#root, 'code-cache', tag, `${basename(this.#path)}.cache`)
  }

  /** The names of the modules that have been evaluated. */
  get evaluated(): string[] {
    return [...this.#evaluated.keys()]
  }

  /**
   * Evaluates a module, once.
   *
   * @param name - its path in `src`, without the extension, or the name of a bundled package
   * @returns its exports; those of Node's own or an installed module if the pack has none of that name
   */
  load(name: string): unknown {
    const known = this.#evaluated.get(name)
    if (known !== undefined) return known.exports
    const evaluate = this.#find(name)
    if (evaluate === undefined) return this.#require(name)
    const module: PackedModule = { exports: {} }
    this.#evaluated.set(name, module)
    const { href } = pathToFileURL(join(this.#root, '../src', `${name}.js`))
    evaluate(module, this.#load, this.#importModule, href)
    return module.exports
  }

  /** @param cachedData - of this pack */
  compile(cachedData?: Buffer): Script {
    // The pack is ASCII. Latin-1 is the fastest way to read that.
    return new Script(readFileSync(this.#path, 'latin1'), {
      filename: this.#path,
      ...(cachedData === undefined ? {} : { cachedData }),
    })
  }

  readonly #load = (name: string): unknown => this.load(name)

  /** For `import()`, which a script that vm has compiled cannot call by itself. */
  readonly #importModule = async (name: string): Promise<unknown> => {
    return this.#find(name) === undefined ? ((await import(name)) as unknown) : this.load(name)
  }

  #find(name: string): Evaluate | undefined {
    if (Object.hasOwn(this.#early, name)) return this.#early[name]
    if (name.startsWith('node:')) return undefined
    this.#modules ??= this.compile(this.#cache()).runInThisContext() as Modules
    return Object.hasOwn(this.#modules, name) ? this.#modules[name] : undefined
  }

  #cache(): Buffer | undefined {
    try {
      return readFileSync(this.cachePath)
    } catch {
      return undefined // not made for this V8, or not readable
    }
  }
}
