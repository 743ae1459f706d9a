// Registration only. An environment has no state: objects that threads share are in the registries,
// and a thread holds them by its handles. Therefore any number of workers can load this addon.
#include <napi.h>

#include "calls.h"
#include "common/assemble_loop.h"
#include "common/exports.h"
#include "common/place_loop.h"
#include "common/uapi.h"
#include "region.h"
#include "userfaultfd.h"

namespace postcopy {

namespace {

constexpr Export kFunctions[] = {
    {"regionCreate", RegionCreate},
    {"regionOpenFile", RegionOpenFile},
    {"regionAttach", RegionAttach},
    {"regionInfo", RegionInfo},
    {"regionClose", RegionClose},
    {"regionLease", RegionLeaseOf},
    {"regionMadvise", RegionMadvise},
    {"regionDiscard", RegionDiscard},
    {"regionMincore", RegionMincore},
    {"regionRead", RegionRead},
    {"regionWrite", RegionWrite},
    {"regionTouch", RegionTouch},
    {"regionReadFile", RegionReadFile},
    {"regionWriteFile", RegionWriteFile},
    {"pagemapScanDirty", PagemapScanDirty},
    {kPagemapScan, PagemapScan},
    {"uffdProbe", UffdProbe},
    {"uffdOpen", UffdOpen},
    {"uffdAttach", UffdAttach},
    {"uffdInfo", UffdInfo},
    {"uffdClose", UffdClose},
    {"uffdRegister", UffdRegister},
    {"uffdUnregister", UffdUnregister},
    {"uffdCopy", UffdCopy},
    {"uffdMove", UffdMove},
    {"uffdZeropage", UffdZeropage},
    {"uffdContinue", UffdContinue},
    {"uffdPoison", UffdPoison},
    {"uffdWake", UffdWake},
    {"uffdWriteProtect", UffdWriteProtect},
    {"uffdRead", UffdRead},
    {"watchStart", WatchStart},
    {"watchStop", WatchStop},
    {"guardStart", GuardStart},
    {kGuardDescribe, GuardDescribe},
    {"guardBegin", GuardBegin},
    {"guardStop", GuardStop},
    {"pageFileOpen", PageFileOpen},
    {"pageFileAttach", PageFileAttach},
    {"pageFileInfo", PageFileInfo},
    {"pageFileClose", PageFileClose},
    {"pageFileFind", PageFileFind},
    {kPackPages, PackPages},
    {kSendPages, SendPages},
    {kLoadRecords, LoadRecords},
    {kAssembleRecords, AssembleRecords},
    {kPlaceRecords, PlaceRecords},
    {kStoreRecords, StoreRecords},
    {"bitmapRuns", BitmapRuns},
    {"bitmapFindNext", BitmapFindNext},
    {"bitmapCount", BitmapCount},
    {"bitmapFill", BitmapFill},
    {"bitmapRoundOut", BitmapRoundOut},
    {"bitmapMerge", BitmapMerge},
    {"bytesAreZero", BytesAreZero},
    {"checksumRecords", ChecksumRecords},
    {"checksumPages", ChecksumPages},
    {"crc32c", Crc32cOf},
    {"socketSet", SocketSet},
    {"socketGet", SocketGet},
    {"socketOutstanding", SocketOutstanding},
    {"socketSend", SocketSend},
    {"socketPeerPid", SocketPeerPid},
    {"fdSpin", FdSpin},
    {"socketListenUnix", SocketListenUnix},
    {"fdDuplicate", FdDuplicate},
    {"fdClose", FdClose},
    {"fileExtents", FileExtents},
    {"processExit", ProcessExit},
};

constexpr RowExport kRows[] = {
    kPageRange,   kFaultEvent, kForkEvent, kRemapEvent, kRangeEvent,
    kPageFileRun, kFileExtent, kPageRun,   kAssembly,
};

constexpr ConstantExport kConstants[] = {
    {"regionKind.anon", RegionKind::kAnon},
    {"regionKind.memfd", RegionKind::kMemfd},
    {"regionKind.hugetlb", RegionKind::kHugetlb},
    {"regionKind.file", RegionKind::kFile},
    {"openMethod.device", OpenMethod::kDevice},
    {"openMethod.syscall", OpenMethod::kSyscall},
    {"scanFlag.writeProtect", uapi::kScanWpMatching},
    {"scanFlag.requireAsync", uapi::kScanCheckWpAsync},
    {"registerMode.missing", uapi::kRegisterMissing},
    {"registerMode.writeProtect", uapi::kRegisterWriteProtect},
    {"registerMode.minor", uapi::kRegisterMinor},
    {"fillMode.dontWake", uapi::kDontWake},
    {"copyMode.writeProtect", uapi::kCopyWriteProtect},
    {"continueMode.writeProtect", uapi::kContinueWriteProtect},
    {"moveMode.allowSourceHoles", uapi::kMoveAllowSrcHoles},
    {"writeProtectMode.enable", uapi::kWriteProtectEnable},
    {"writeProtectMode.dontWake", uapi::kWriteProtectDontWake},
    {"event.PAGEFAULT", uapi::kEventPagefault},
    {"event.FORK", uapi::kEventFork},
    {"event.REMAP", uapi::kEventRemap},
    {"event.REMOVE", uapi::kEventRemove},
    {"event.UNMAP", uapi::kEventUnmap},
    {"placeStop.NONE", PlaceStop::kNone},
    {"placeStop.DUPLICATE", PlaceStop::kDuplicate},
    {"placeStop.IOCTL", PlaceStop::kIoctl},
    {"assembleStop.NONE", AssembleLoop::kNone},
    {"assembleStop.OTHER_HOST_PAGE", AssembleLoop::kOtherHostPage},
    {"assembleStop.DUPLICATE", AssembleLoop::kDuplicate},
    {"record.targetPageBytes", kTargetPageBytes},
    {"record.headerBytes", kRecordHeaderBytes},
    {"record.pageBytes", kPageRecordBytes},
    {"record.zeroBytes", kZeroRecordBytes},
    {"record.maxNameBytes", kMaxNameBytes},
    {"record.zero", kFlagZero},
    {"record.page", kFlagPage},
    {"record.continue", kFlagContinue},
};

constexpr Interface kInterface{kFunctions, kRows, kConstants};

Napi::Object Init(Napi::Env, Napi::Object exports) {
  return AddExports(exports, kInterface);
}

}  // namespace

NODE_API_MODULE(postcopy, Init)

}  // namespace postcopy
