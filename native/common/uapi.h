// Our own copy of the kernel interfaces that this addon uses: distribution headers are often older
// than the running kernel (those of Debian 12 lack POISON, MOVE and PAGEMAP_SCAN). The names are in
// a namespace, so they do not clash with newer headers. Sources: ioctl_userfaultfd(2), madvise(2),
// Documentation/admin-guide/mm/pagemap.rst.
#pragma once

#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <bit>
#include <cstddef>
#include <cstdint>

namespace postcopy::uapi {

static_assert(sizeof(void*) == 8, "needs 64-bit addresses");
static_assert(std::endian::native == std::endian::little, "bitmap words are read as little endian");

#if defined(__NR_userfaultfd)
inline constexpr long kSysUserfaultfd = __NR_userfaultfd;
#elif defined(__x86_64__)
inline constexpr long kSysUserfaultfd = 323;
#else
inline constexpr long kSysUserfaultfd = 282;
#endif

// userfaultfd(2)
inline constexpr int kUserModeOnly = 1;
inline constexpr unsigned long kIocNew = _IO(0xaa, 0x00);

inline constexpr uint64_t kUffdApi = 0xaa;

struct UffdioApi {
  uint64_t api;
  uint64_t features;
  uint64_t ioctls;
};

struct UffdioRange {
  uint64_t start;
  uint64_t len;
};

struct UffdioRegister {
  UffdioRange range;
  uint64_t mode;
  uint64_t ioctls;
};

// ZEROPAGE, CONTINUE and POISON share one layout; COPY and MOVE share another.
struct UffdioFill {
  UffdioRange range;
  uint64_t mode;
  int64_t done;
};

struct UffdioTransfer {
  uint64_t dst;
  uint64_t src;
  uint64_t len;
  uint64_t mode;
  int64_t done;
};

struct UffdioWriteProtect {
  UffdioRange range;
  uint64_t mode;
};

inline constexpr unsigned long kUffdioApi = _IOWR(0xaa, 0x3f, UffdioApi);
inline constexpr unsigned long kUffdioRegister = _IOWR(0xaa, 0x00, UffdioRegister);
// Defined with _IOR although the kernel reads their argument: the direction is part of the number.
inline constexpr unsigned long kUffdioUnregister = _IOR(0xaa, 0x01, UffdioRange);
inline constexpr unsigned long kUffdioWake = _IOR(0xaa, 0x02, UffdioRange);
inline constexpr unsigned long kUffdioCopy = _IOWR(0xaa, 0x03, UffdioTransfer);
inline constexpr unsigned long kUffdioZeropage = _IOWR(0xaa, 0x04, UffdioFill);
inline constexpr unsigned long kUffdioMove = _IOWR(0xaa, 0x05, UffdioTransfer);
inline constexpr unsigned long kUffdioWriteProtect = _IOWR(0xaa, 0x06, UffdioWriteProtect);
inline constexpr unsigned long kUffdioContinue = _IOWR(0xaa, 0x07, UffdioFill);
inline constexpr unsigned long kUffdioPoison = _IOWR(0xaa, 0x08, UffdioFill);

static_assert(kUffdioApi == 0xc018aa3f && kUffdioRegister == 0xc020aa00);
static_assert(kUffdioUnregister == 0x8010aa01 && kUffdioWake == 0x8010aa02);
static_assert(kUffdioCopy == 0xc028aa03 && kUffdioZeropage == 0xc020aa04);
static_assert(kUffdioMove == 0xc028aa05 && kUffdioWriteProtect == 0xc018aa06);
static_assert(kUffdioContinue == 0xc020aa07 && kUffdioPoison == 0xc020aa08);

inline constexpr uint64_t kRegisterMissing = 1;
inline constexpr uint64_t kRegisterWriteProtect = 2;
inline constexpr uint64_t kRegisterMinor = 4;

// The same bit for every filling ioctl.
inline constexpr uint64_t kDontWake = 1;
inline constexpr uint64_t kCopyWriteProtect = 2;
inline constexpr uint64_t kContinueWriteProtect = 2;
inline constexpr uint64_t kMoveAllowSrcHoles = 2;
inline constexpr uint64_t kWriteProtectEnable = 1;
inline constexpr uint64_t kWriteProtectDontWake = 2;

enum : uint8_t {
  kEventPagefault = 0x12,
  kEventFork = 0x13,
  kEventRemap = 0x14,
  kEventRemove = 0x15,
  kEventUnmap = 0x16,
};

struct UffdMsg {
  uint8_t event;
  uint8_t reserved1;
  uint16_t reserved2;
  uint32_t reserved3;
  union {
    struct {
      uint64_t flags;
      uint64_t address;
      uint32_t ptid;
    } pagefault;
    struct {
      uint32_t ufd;
    } fork;
    struct {
      uint64_t from;
      uint64_t to;
      uint64_t len;
    } remap;
    struct {
      uint64_t start;
      uint64_t end;
    } remove;
  } arg;
};

static_assert(sizeof(UffdMsg) == 32 && offsetof(UffdMsg, arg) == 8);

// PAGEMAP_SCAN, Linux 6.7
struct PageRegion {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};

struct PmScanArg {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t vec;
  uint64_t vec_len;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};

inline constexpr unsigned long kPagemapScan = _IOWR('f', 16, PmScanArg);
static_assert(sizeof(PmScanArg) == 96 && kPagemapScan == 0xc0606610);

inline constexpr uint64_t kScanWpMatching = 1;
inline constexpr uint64_t kScanCheckWpAsync = 2;
inline constexpr uint64_t kPageIsWritten = 2;

// memfd_create(2), statfs(2)
inline constexpr unsigned kMfdCloexec = 0x1;
inline constexpr unsigned kMfdHugetlb = 0x4;
inline constexpr unsigned kMfdHuge2Mb = 21U << 26;
inline constexpr int64_t kHugetlbfsMagic = 0x958458f6;

// madvise(2): names of the manual page, without MADV_.
struct AdviceEntry {
  const char* name;
  int value;
};

inline constexpr AdviceEntry kAdvice[] = {
    {"NORMAL", 0},           {"RANDOM", 1},         {"SEQUENTIAL", 2},
    {"WILLNEED", 3},         {"DONTNEED", 4},       {"FREE", 8},
    {"REMOVE", 9},           {"DONTFORK", 10},      {"DOFORK", 11},
    {"MERGEABLE", 12},       {"UNMERGEABLE", 13},   {"HUGEPAGE", 14},
    {"NOHUGEPAGE", 15},      {"DONTDUMP", 16},      {"DODUMP", 17},
    {"WIPEONFORK", 18},      {"KEEPONFORK", 19},    {"COLD", 20},
    {"PAGEOUT", 21},         {"POPULATE_READ", 22}, {"POPULATE_WRITE", 23},
    {"DONTNEED_LOCKED", 24}, {"COLLAPSE", 25},
};

inline constexpr int kMadvDontneed = 4;
inline constexpr int kMadvRemove = 9;
inline constexpr int kMadvDontfork = 10;
inline constexpr int kMadvPopulateWrite = 23;

}  // namespace postcopy::uapi
