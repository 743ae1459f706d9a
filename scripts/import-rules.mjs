// What may import what: floors, circles, and each room's index (docs/architecture.md).
// The rooms of src/ by floor. A room imports only from lower floors, that is, from floors earlier
// in this list; not from rooms of its own floor. docs/architecture.md has the same table.
export const floors = [
  ['kernel'],
  ['stream'],
  ['ram', 'net', 'host', 'view'],
  ['sources'],
  ['migration'],
  ['source', 'destination'],
  ['guest', 'park'],
  ['monitor', 'lab', 'testing'],
  ['qemu'],
  ['cli'],
  ['bench', 'soak'],
]

/** Rooms that make no system call: `postcopy/stream` works without a built addon. */
const withoutAddon = ['stream', 'view']

const folder = (rooms) => `^src/(${rooms.join('|')})/`

const floorRules = floors.flatMap((rooms, floor) =>
  rooms.map((room) => {
    const forbidden = [
      ...floors.slice(floor + 1).flat(),
      ...rooms.filter((other) => other !== room),
      ...(withoutAddon.includes(room) ? ['kernel'] : []),
    ]
    return {
      name: `floor-of-${room}`,
      comment: `src/${room}/ may use only the floors before it.`,
      severity: 'error',
      from: { path: folder([room]) },
      to: { path: forbidden.length === 0 ? '^$' : folder(forbidden) },
    }
  }),
)

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    ...floorRules,
    {
      name: 'unknown-room',
      comment: 'Every folder of src/ has its place in the list of floors.',
      severity: 'error',
      from: {},
      to: { path: '^src/[^/]+/', pathNot: folder(floors.flat()) },
    },
    {
      name: 'past-the-index',
      comment: 'Other rooms use a room by its index.ts or internal.ts, or load a file on demand.',
      severity: 'error',
      from: { path: '^src/(?:([^/]+)/.*|[^/]+)$' },
      to: {
        path: '^src/[^/]+/',
        pathNot: ['^src/$1/', '^src/[^/]+/(index|internal)\\.ts$'],
        dependencyTypesNot: ['dynamic-import'],
      },
    },
    {
      name: 'leaves',
      comment: 'Files of src/ itself are for every floor and use none; index.ts is the package.',
      severity: 'error',
      from: { path: '^src/[^/]+$', pathNot: '^src/index\\.ts$' },
      to: { path: '^src/[^/]+/' },
    },
    {
      name: 'circle',
      comment: 'Two files that need each other are one, or have a third thing in common.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    { name: 'unresolved', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'node', 'default'],
    },
  },
}
