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
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { cachedDataVersionTag } from 'node:v8'
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

type Modules = Readonly<Record<string, Evaluate>>

export class Pack {
  readonly #path: string
  readonly #cachePath: string
  readonly #compiled: string
  readonly #evaluated = new Map<string, PackedModule>()
  readonly #require: NodeJS.Require
  #modules: Modules | undefined

  /**
   * @param root - `dist/bundle`
   * @param file - the name of the pack in `root`
   */
  constructor(root: string, file: string) {
    this.#path = join(root, file)
    this.#cachePath = join(root, 'code-cache', cachedDataVersionTag().toString(16), `${file}.cache`)
    this.#compiled = join(root, '../src')
    this.#require = createRequire(this.#path)
  }

  /** The file with the code cache for this V8 and its flags. */
  get cachePath(): string {
    return this.#cachePath
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
    this.#modules ??= this.compile(this.#cache()).runInThisContext() as Modules
    const evaluate = this.#modules[name]
    if (evaluate === undefined) return this.#require(name)
    const module: PackedModule = { exports: {} }
    this.#evaluated.set(name, module)
    const { href } = pathToFileURL(join(this.#compiled, `${name}.js`))
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
    const isPacked = this.#modules !== undefined && Object.hasOwn(this.#modules, name)
    return isPacked ? this.load(name) : ((await import(name)) as unknown)
  }

  #cache(): Buffer | undefined {
    try {
      return readFileSync(this.#cachePath)
    } catch {
      return undefined // not made for this V8, or not readable
    }
  }
}
