import js from '@eslint/js'
import tsdoc from 'eslint-plugin-tsdoc'
import tseslint from 'typescript-eslint'

export default tseslint.config(
  { ignores: ['dist', 'build*', 'node_modules'] },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    plugins: { tsdoc },
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      // One-line event handlers read better without braces.
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      'tsdoc/syntax': 'error',
      eqeqeq: 'error',
    },
  },
  {
    files: ['**/*.mjs'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly' } },
  },
  {
    files: ['src/cli/**/*.ts', 'src/soak/main.ts', 'src/bench/main.ts'],
    ignores: [
      'src/cli/output.ts',
      'src/cli/signals.ts',
      'src/cli/warnings.ts',
      'src/cli/end-process.ts',
    ],
    rules: {
      // What is printed, signals, warnings and the end have one place each: output.ts, signals.ts,
      // warnings.ts, run-command.ts.
      'no-restricted-properties': [
        'error',
        ...['exit', 'exitCode', 'stdout', 'stderr', 'on', 'once', 'off', 'addListener'].map(
          (property) => ({
            object: 'process',
            property,
            message: 'Commands print by output.ts and end by run-command.ts.',
          }),
        ),
      ],
      'no-console': 'error',
    },
  },
  {
    files: ['src/cli/**/*.ts', 'src/bench/main.ts', 'src/lab/document.ts', 'src/lab/select.ts'],
    ignores: ['src/cli/demo/stall.ts'], // reads /proc
    rules: {
      'no-restricted-imports': [
        'error',
        ...['node:fs', 'node:fs/promises'].map((name) => ({
          name,
          importNames: [
            ...['open', 'openSync', 'readFile', 'readFileSync', 'writeFile', 'writeFileSync'],
            ...['appendFile', 'appendFileSync', 'createReadStream', 'createWriteStream'],
          ],
          message:
            'Files that a user names are opened by src/user-files.ts, which a FIFO does not hold up.',
        })),
      ],
    },
  },
)
