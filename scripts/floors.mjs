// The rooms of src/ by floor. A floor imports only from the floors before it in this list, and no
// room from another one of its own floor. docs/architecture.md has the same table.
export const floors = [
  ['kernel'],
  ['stream'],
  ['ram', 'net', 'host', 'view'],
  ['migration'],
  ['source', 'destination'],
  ['guest', 'park'],
  ['monitor', 'lab', 'testing'],
  ['cli'],
  ['bench', 'soak'],
]

/** Rooms that make no system call: `postcopy/stream` works where the addon was not built. */
export const withoutAddon = ['stream', 'view']
