/**
 * Names of userfaultfd's feature bits and ioctls, as in `linux/userfaultfd.h` without their prefix.
 *
 * The addon takes masks as `bigint`, because bit 63 is used; all other code uses sets of names.
 */

/** `UFFD_FEATURE_…`, in the order of their bits, with the Linux version that introduced each. */
const features = {
  PAGEFAULT_FLAG_WP: '5.7',
  EVENT_FORK: '4.11',
  EVENT_REMAP: '4.11',
  EVENT_REMOVE: '4.11',
  MISSING_HUGETLBFS: '4.11',
  MISSING_SHMEM: '4.11',
  EVENT_UNMAP: '4.11',
  SIGBUS: '4.14',
  THREAD_ID: '4.14',
  MINOR_HUGETLBFS: '5.13',
  MINOR_SHMEM: '5.14',
  EXACT_ADDRESS: '5.18',
  WP_HUGETLBFS_SHMEM: '5.19',
  WP_UNPOPULATED: '6.4',
  POISON: '6.6',
  WP_ASYNC: '6.7',
  MOVE: '6.8',
} as const

/** A feature that {@link Userfaultfd.open} can ask for. */
export type FeatureName = keyof typeof features

/** Every feature that this package knows, in the order of the bits. */
export const featureNames = Object.keys(features) as readonly FeatureName[]

/** The Linux version that introduced a feature. For messages only: ask the kernel what it has. */
export function featureSince(name: FeatureName): string {
  return features[name]
}

const ioctls = {
  REGISTER: 0x00,
  UNREGISTER: 0x01,
  WAKE: 0x02,
  COPY: 0x03,
  ZEROPAGE: 0x04,
  MOVE: 0x05,
  WRITEPROTECT: 0x06,
  CONTINUE: 0x07,
  POISON: 0x08,
  API: 0x3f,
} as const

/** `UFFDIO_…`. */
export type IoctlName = keyof typeof ioctls

const ioctlNames = Object.keys(ioctls) as readonly IoctlName[]

/** The mask of a set of features. */
export function featuresToMask(names: Iterable<FeatureName>): bigint {
  let mask = 0n
  for (const name of names) {
    const bit = featureNames.indexOf(name)
    if (bit < 0) throw new TypeError(`unknown userfaultfd feature "${name}"`)
    mask |= 1n << BigInt(bit)
  }
  return mask
}

/** The names in a mask; unknown bits of newer kernels are left out. */
export function featuresFromMask(mask: bigint): ReadonlySet<FeatureName> {
  return new Set(featureNames.filter((_, bit) => (mask & (1n << BigInt(bit))) !== 0n))
}

/** The ioctls in a mask that `UFFDIO_REGISTER` returned. */
export function ioctlsFromMask(mask: bigint): ReadonlySet<IoctlName> {
  return new Set(ioctlNames.filter((name) => (mask & (1n << BigInt(ioctls[name]))) !== 0n))
}
