/** Hooks of Node's module loader; they run on a thread of their own. */
import { readFile } from 'node:fs/promises'
import type { LoadFnOutput, LoadHook, ResolveHook } from 'node:module'
import { fileURLToPath } from 'node:url'

/**
 * Resolves `postcopy/…` to this package from any importing file, so that there is one instance.
 */
export const resolve: ResolveHook = async (specifier, context, nextResolve) => {
  if (specifier === 'postcopy' || specifier.startsWith('postcopy/')) {
    return nextResolve(specifier, { ...context, parentURL: import.meta.url })
  }
  return nextResolve(specifier, context)
}

/** Strips the types of TypeScript: by Node if it can, else by the compiler if it is installed. */
export const load: LoadHook = async (url, context, nextLoad) => {
  if (!/^file:.*\.m?ts$/.test(url) || nodeStripsTypes()) return nextLoad(url, context)
  const path = fileURLToPath(url)
  const source = await readFile(path, 'utf8')
  return {
    format: 'module',
    shortCircuit: true,
    source: await stripTypes(path, source),
  } satisfies LoadFnOutput
}

/** Node 22.18 and later report it in a field that the types of Node 20 do not have. */
function nodeStripsTypes(): boolean {
  const how: unknown = Reflect.get(process.features, 'typescript')
  return how === 'strip' || how === 'transform'
}

async function stripTypes(path: string, source: string): Promise<string> {
  const compiler = await import('typescript').catch((cause: unknown) => {
    throw new Error(
      `${path} is TypeScript, which this Node (${process.version}) cannot run: ` +
        'install the package typescript, take Node 22.18 or later, or write JavaScript',
      { cause },
    )
  })
  const { ModuleKind, ScriptTarget, transpileModule } = compiler.default
  return transpileModule(source, {
    fileName: path,
    compilerOptions: {
      module: ModuleKind.ESNext,
      target: ScriptTarget.ES2022,
      inlineSourceMap: true,
      verbatimModuleSyntax: true,
    },
  }).outputText
}
