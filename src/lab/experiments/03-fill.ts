/** The filling ioctls: how much they fill, and what they return. Rows 7 to 10. */
import { Fill, Madv, Mode, addressOf, experiment, peek, poke, step } from '../index.js'

const pageBytes = 4096

export const copyUnalignedSource = experiment({
  id: 'copy-unaligned-src',
  tags: ['fill', 'copy'],
  question: 'Must the source of UFFDIO_COPY be aligned?',
  method: 'Copies a page from a buffer at an odd address, and looks at both of its ends.',
  expected: {
    values: { answer: ['ok', pageBytes], 'bytes match': true },
    source: 'kernel-behaviour 3.3; ioctl_userfaultfd(2) requires it of dst and len only',
  },
  run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 1 })
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    const buffer = new Uint8Array(2 * pageBytes).map((_, index) => index % 251)
    const { errno, field } = uffd.copy(memory.address, addressOf(buffer) + 13, pageBytes)
    const seen = new Uint8Array(pageBytes)
    seen.set(peek(memory.address, seen.length))
    return {
      answer: [errno, field],
      'bytes match': Buffer.compare(seen, buffer.subarray(13, 13 + pageBytes)) === 0,
    }
  },
})

export const copyUnalignedSourceHugetlb = experiment({
  ...copyUnalignedSource,
  id: 'copy-unaligned-src-hugetlb',
  tags: ['fill', 'copy', 'hugetlb'],
  question: 'Must the source of UFFDIO_COPY be aligned for a 2 MiB page?',
  needs: { hugePages: 1, features: ['MISSING_HUGETLBFS'] },
  expected: {
    values: { answer: ['ok', 2 ** 21], 'bytes match': true },
    source: 'kernel-behaviour 3.3',
  },
  run(lab) {
    const uffd = lab.open()
    const memory = lab.map('hugetlb', { pages: 1 })
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    const buffer = new Uint8Array(2 ** 21 + pageBytes).map((_, index) => index % 251)
    const { errno, field } = uffd.copy(memory.address, addressOf(buffer) + 13, 2 ** 21)
    const seen = new Uint8Array(2 ** 21)
    seen.set(peek(memory.address, seen.length))
    return {
      answer: [errno, field],
      'bytes match': Buffer.compare(seen, buffer.subarray(13, 13 + 2 ** 21)) === 0,
    }
  },
})

export const copyPartial = experiment({
  id: 'copy-partial',
  tags: ['fill', 'copy', 'errors'],
  question: 'Where does a UFFDIO_COPY over several pages stop if one of them is present?',
  method: 'Places page 2 of 4, copies all 4, then copies again from where it stopped.',
  expected: {
    values: {
      'run of 4': ['EAGAIN', 2 * pageBytes],
      'from page 2': ['EEXIST', -17],
      'pages 0 and 1': [7, 7],
      'page 3 is still missing': true,
    },
    source: 'ioctl_userfaultfd(2): EAGAIN with a count in copy; kernel-behaviour 3.2',
  },
  async run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 4 })
    const bytes = new Uint8Array(4 * pageBytes).fill(7)
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    uffd.copy(memory.page(2), bytes, pageBytes)
    const run = uffd.copy(memory.address, bytes, 4 * pageBytes)
    const next = uffd.copy(memory.page(2), bytes, 2 * pageBytes)
    return {
      'run of 4': [run.errno, run.field],
      'from page 2': [next.errno, next.field],
      'pages 0 and 1': [memory.byte(0), memory.byte(1)],
      'page 3 is still missing': await lab.thread(step.load(memory.page(3))).parks(),
    }
  },
})

const preset = 0x5a5a

export const fieldUntouched = experiment({
  id: 'field-untouched',
  tags: ['fill', 'errors'],
  question: 'Which errors of the filling ioctls leave the output field as it was?',
  method: `Presets the field to ${preset} and provokes each error of UFFDIO_COPY.`,
  expected: {
    values: {
      done: ['ok', pageBytes],
      'bad mode bit': ['EINVAL', preset],
      'unaligned destination': ['EINVAL', preset],
      'no length': ['EINVAL', preset],
      'page is present': ['EEXIST', -17],
      'not registered': ['ENOENT', -2],
      'source not mapped': ['EFAULT', -14],
      'run stops at a page': ['EAGAIN', pageBytes],
      'CONTINUE on private memory': ['EINVAL', -22],
    },
    source: 'kernel-behaviour 3.2: argument checks leave it, the memory code writes it',
  },
  run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 8 })
    const foreign = lab.map('anon')
    const bytes = new Uint8Array(4 * pageBytes).fill(1)
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    const copy = (dst: number, src: Uint8Array | number, length: number, mode = 0) => {
      const { errno, field } = uffd.copy(dst, src, length, mode, preset)
      return [errno, field]
    }
    const minor = uffd.continue(memory.page(7), pageBytes, 0, preset)
    return {
      done: copy(memory.page(1), bytes, pageBytes),
      'bad mode bit': copy(memory.page(4), bytes, pageBytes, 8),
      'unaligned destination': copy(memory.page(4) + 1, bytes, pageBytes),
      'no length': copy(memory.page(4), bytes, 0),
      'page is present': copy(memory.page(1), bytes, pageBytes),
      'not registered': copy(foreign.address, bytes, pageBytes),
      'source not mapped': copy(memory.page(4), 16 * pageBytes, pageBytes),
      'run stops at a page': copy(memory.page(0), bytes, 2 * pageBytes),
      'CONTINUE on private memory': [minor.errno, minor.field],
    }
  },
})

export const fillArguments = experiment({
  id: 'fill-arguments',
  tags: ['fill', 'errors'],
  question: 'Which arguments do the filling ioctls and WRITEPROTECT refuse?',
  method: 'Unaligned and empty ranges and unknown mode bits for each; EFAULT and EEXIST of each.',
  needs: { features: ['MOVE', 'POISON', 'MINOR_SHMEM', 'WP_HUGETLBFS_SHMEM'] },
  expected: {
    values: {
      ZEROPAGE: ['EINVAL', 'EINVAL', 'EINVAL', 'EEXIST'],
      CONTINUE: ['EINVAL', 'EINVAL', 'EINVAL', 'EEXIST'],
      POISON: ['EINVAL', 'EINVAL', 'EINVAL', 'EEXIST'],
      MOVE: ['EINVAL', 'EINVAL', 'EINVAL', 'EEXIST'],
      'CONTINUE of a page that is not in the file': 'EFAULT',
      'WRITEPROTECT with DONTWAKE': 'EINVAL',
      'WRITEPROTECT of a missing-only range': 'ENOENT',
      'WAKE of any range': 'ok',
    },
    source: 'ioctl_userfaultfd(2); kernel-behaviour 3.3',
  },
  run(lab) {
    const uffd = lab.open()
    const anon = lab.map('anon', { pages: 8 })
    const source = lab.map('anon', { pages: 8 })
    const shared = lab.map('shmem', { pages: 8, alias: true })
    const armed = lab.map('anon')
    uffd.register(anon.address, anon.lengthBytes, Mode.MISSING)
    uffd.register(shared.address, shared.lengthBytes, Mode.MISSING + Mode.MINOR)
    uffd.register(armed.address, armed.lengthBytes, Mode.WP)
    uffd.copy(anon.address, new Uint8Array(pageBytes), pageBytes)
    poke(shared.alias, Uint8Array.of(1))
    uffd.continue(shared.address, pageBytes)
    poke(source.address, new Uint8Array(2 * pageBytes).fill(1))
    type Call = (start: number, length: number, mode: number) => { errno: string }
    const four = (call: Call, base: number) =>
      [
        call(base + 1, pageBytes, 0),
        call(base, 0, 0),
        call(base, pageBytes, 64),
        call(base, pageBytes, 0),
      ].map(({ errno }) => errno)
    return {
      ZEROPAGE: four((...args) => uffd.zeropage(...args), anon.address),
      CONTINUE: four((...args) => uffd.continue(...args), shared.address),
      POISON: four((...args) => uffd.poison(...args), anon.address),
      MOVE: four((start, ...rest) => uffd.move(start, source.address, ...rest), anon.address),
      'CONTINUE of a page that is not in the file': uffd.continue(shared.page(3), pageBytes).errno,
      'WRITEPROTECT with DONTWAKE': uffd.writeProtect(armed.address, pageBytes, 1 + 2),
      'WRITEPROTECT of a missing-only range': uffd.writeProtect(anon.address, pageBytes, 1),
      'WAKE of any range': uffd.wake(16 * pageBytes, pageBytes),
    }
  },
})

export const copyOverMarkers = experiment({
  id: 'copy-over-markers',
  tags: ['fill', 'copy', 'poison'],
  question: 'Do a poison marker or a guard stop UFFDIO_COPY?',
  method: 'Copies over a poisoned page and over a page with MADV_GUARD_INSTALL, then reads both.',
  needs: { features: ['POISON'] },
  expected: {
    values: {
      'over poison': 'ok',
      'reads after poison': 5,
      'ZEROPAGE over poison': 'EEXIST',
      'over a guard': 'ok',
      'reads after the guard': 5,
    },
    source: 'kernel-behaviour 3.3; madvise(2): guards since 6.13',
  },
  run(lab) {
    const uffd = lab.open()
    const memory = lab.map('anon', { pages: 4 })
    const bytes = new Uint8Array(pageBytes).fill(5)
    uffd.register(memory.address, memory.lengthBytes, Mode.MISSING)
    uffd.poison(memory.page(0), 2 * pageBytes, Fill.DONTWAKE)
    const overPoison = uffd.copy(memory.page(0), bytes, pageBytes).errno
    const zero = uffd.zeropage(memory.page(1), pageBytes).errno
    const guarded = memory.madvise(Madv.GUARD_INSTALL, 2, 1)
    const seen = {
      'over poison': overPoison,
      'reads after poison': memory.byte(0),
      'ZEROPAGE over poison': zero,
    }
    if (guarded !== 'ok') {
      for (const name of ['over a guard', 'reads after the guard']) {
        lab.unavailable(name, 'MADV_GUARD_INSTALL needs Linux 6.13')
      }
      return seen
    }
    const overGuard = uffd.copy(memory.page(2), bytes, pageBytes).errno
    return { ...seen, 'over a guard': overGuard, 'reads after the guard': memory.byte(2) }
  },
})
