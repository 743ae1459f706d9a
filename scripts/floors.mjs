// The rooms of src/ by floor. A room imports only from lower floors, that is, from floors earlier
// in this list; not from rooms of its own floor. docs/architecture.md has the same table.
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

/** Rooms that make no system call: `postcopy/stream` works without a built addon. */
export const withoutAddon = ['stream', 'view']
