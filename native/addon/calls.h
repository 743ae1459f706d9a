// All functions that the addon exports, with the layouts of their numbers and of the lists that
// they fill (common/layout.h). Each function is documented at its definition, and typed in
// src/kernel/native.ts.
#pragma once

#include <napi.h>

#include "common/layout.h"

namespace postcopy {

// region_calls.cc
Napi::Value RegionCreate(const Napi::CallbackInfo& info);
Napi::Value RegionOpenFile(const Napi::CallbackInfo& info);
Napi::Value RegionAttach(const Napi::CallbackInfo& info);
Napi::Value RegionInfo(const Napi::CallbackInfo& info);
Napi::Value RegionClose(const Napi::CallbackInfo& info);
Napi::Value RegionLeaseOf(const Napi::CallbackInfo& info);

// memory_calls.cc
Napi::Value RegionMadvise(const Napi::CallbackInfo& info);
Napi::Value RegionDiscard(const Napi::CallbackInfo& info);
Napi::Value RegionMincore(const Napi::CallbackInfo& info);
Napi::Value RegionRead(const Napi::CallbackInfo& info);
Napi::Value RegionWrite(const Napi::CallbackInfo& info);
Napi::Value RegionTouch(const Napi::CallbackInfo& info);
Napi::Value RegionReadFile(const Napi::CallbackInfo& info);
Napi::Value RegionWriteFile(const Napi::CallbackInfo& info);

// pagemap_calls.cc
inline constexpr CallLayout kPagemapScan{
    "pagemapScan",
    Arguments{"offset", "length", "flags", "maxPages", "inverted", "all", "any", "report"},
    Results{"next"}};
inline constexpr RowLayout kPageRange{"pageRange", Fields{"start", "end", "categories"}};
Napi::Value PagemapScanDirty(const Napi::CallbackInfo& info);
Napi::Value PagemapScan(const Napi::CallbackInfo& info);

// userfaultfd_calls.cc
// The messages of a userfaultfd by type. All have the stride of a fault.
inline constexpr RowLayout kFaultEvent{"faultEvent",
                                       Fields{"type", "flags", "address", "threadId"}};
inline constexpr RowLayout kForkEvent{"forkEvent", Fields{"type", "childFd"}};
inline constexpr RowLayout kRemapEvent{"remapEvent", Fields{"type", "from", "to", "length"}};
inline constexpr RowLayout kRangeEvent{"rangeEvent", Fields{"type", "start", "end"}};
Napi::Value UffdProbe(const Napi::CallbackInfo& info);
Napi::Value UffdOpen(const Napi::CallbackInfo& info);
Napi::Value UffdAttach(const Napi::CallbackInfo& info);
Napi::Value UffdInfo(const Napi::CallbackInfo& info);
Napi::Value UffdClose(const Napi::CallbackInfo& info);
Napi::Value UffdRegister(const Napi::CallbackInfo& info);
Napi::Value UffdUnregister(const Napi::CallbackInfo& info);
Napi::Value UffdCopy(const Napi::CallbackInfo& info);
Napi::Value UffdMove(const Napi::CallbackInfo& info);
Napi::Value UffdZeropage(const Napi::CallbackInfo& info);
Napi::Value UffdContinue(const Napi::CallbackInfo& info);
Napi::Value UffdPoison(const Napi::CallbackInfo& info);
Napi::Value UffdWake(const Napi::CallbackInfo& info);
Napi::Value UffdWriteProtect(const Napi::CallbackInfo& info);
Napi::Value UffdRead(const Napi::CallbackInfo& info);

// watch_calls.cc
Napi::Value WatchStart(const Napi::CallbackInfo& info);
Napi::Value WatchStop(const Napi::CallbackInfo& info);

// process_calls.cc
Napi::Value ProcessExit(const Napi::CallbackInfo& info);

// fault_guard_calls.cc
inline constexpr CallLayout kGuardDescribe{
    "guardDescribe", Arguments{"address", "length", "pageSizeBytes"}, Results{}};
Napi::Value GuardStart(const Napi::CallbackInfo& info);
Napi::Value GuardDescribe(const Napi::CallbackInfo& info);
Napi::Value GuardBegin(const Napi::CallbackInfo& info);
Napi::Value GuardStop(const Napi::CallbackInfo& info);

// page_file_calls.cc
inline constexpr RowLayout kPageFileRun{
    "pageFileRun", Fields{"firstPage", "pageCount", "file", "offset", "strideBytes"}};
Napi::Value PageFileOpen(const Napi::CallbackInfo& info);
Napi::Value PageFileAttach(const Napi::CallbackInfo& info);
Napi::Value PageFileInfo(const Napi::CallbackInfo& info);
Napi::Value PageFileClose(const Napi::CallbackInfo& info);
Napi::Value PageFileFind(const Napi::CallbackInfo& info);

// pack_calls.cc
inline constexpr CallLayout kPackPages{
    "packPages", Arguments{"from", "to", "hostPages", "maxPages", "outOffset", "wait"},
    Results{"nextPage", "normalPages", "zeroPages", "isWaiting"}};
inline constexpr CallLayout kSendPages{
    "sendPages",
    Arguments{"from", "to", "hostPages", "maxPages", "outOffset", "wait", "fd", "piecePages"},
    Results{"nextPage", "normalPages", "zeroPages", "isWaiting", "sentBytes", "unsentFrom",
            "interrupted"}};
Napi::Value PackPages(const Napi::CallbackInfo& info);
Napi::Value SendPages(const Napi::CallbackInfo& info);

// load_calls.cc
inline constexpr CallLayout kLoadRecords{"loadRecords", Arguments{"usedLength", "start", "end"},
                                         Results{"normalPages", "zeroPages"}};
Napi::Value LoadRecords(const Napi::CallbackInfo& info);

// assemble_calls.cc
inline constexpr CallLayout kAssembleRecords{"assembleRecords",
                                             Arguments{"usedLength", "start", "end"},
                                             Results{"normalPages", "zeroPages", "stop"}};
Napi::Value AssembleRecords(const Napi::CallbackInfo& info);

// place_calls.cc
inline constexpr CallLayout kPlaceRecords{
    "placeRecords", Arguments{"usedLength", "start", "end"},
    Results{"normalPages", "zeroPages", "errno", "offset", "ioctls", "stop"}};
Napi::Value PlaceRecords(const Napi::CallbackInfo& info);

// store_calls.cc
inline constexpr CallLayout kStoreRecords{"storeRecords", Arguments{"usedLength", "start", "end"},
                                          Results{"normalPages", "zeroPages", "errno", "offset"}};
Napi::Value StoreRecords(const Napi::CallbackInfo& info);

// bitmap_calls.cc
inline constexpr RowLayout kPageRun{"pageRun", Fields{"start", "end"}};
Napi::Value BitmapRuns(const Napi::CallbackInfo& info);
Napi::Value BitmapFindNext(const Napi::CallbackInfo& info);
Napi::Value BitmapCount(const Napi::CallbackInfo& info);
Napi::Value BitmapFill(const Napi::CallbackInfo& info);
Napi::Value BitmapRoundOut(const Napi::CallbackInfo& info);
Napi::Value BitmapMerge(const Napi::CallbackInfo& info);
Napi::Value BytesAreZero(const Napi::CallbackInfo& info);

// checksum_calls.cc
Napi::Value ChecksumRecords(const Napi::CallbackInfo& info);
Napi::Value ChecksumPages(const Napi::CallbackInfo& info);
Napi::Value Crc32cOf(const Napi::CallbackInfo& info);

// socket_calls.cc
Napi::Value SocketSet(const Napi::CallbackInfo& info);
Napi::Value SocketGet(const Napi::CallbackInfo& info);
Napi::Value SocketOutstanding(const Napi::CallbackInfo& info);
Napi::Value SocketSend(const Napi::CallbackInfo& info);
Napi::Value SocketPeerPid(const Napi::CallbackInfo& info);
Napi::Value FdSpin(const Napi::CallbackInfo& info);
Napi::Value SocketListenUnix(const Napi::CallbackInfo& info);
Napi::Value FdDuplicate(const Napi::CallbackInfo& info);
Napi::Value FdClose(const Napi::CallbackInfo& info);

// file_calls.cc
inline constexpr RowLayout kFileExtent{"fileExtent", Fields{"start", "end"}};
Napi::Value FileExtents(const Napi::CallbackInfo& info);

}  // namespace postcopy
