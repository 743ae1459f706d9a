// All functions that the addon exports. Each is documented at its definition and typed in
// src/kernel/native.ts.
#pragma once

#include <napi.h>

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
Napi::Value PagemapScanDirty(const Napi::CallbackInfo& info);
Napi::Value PagemapScan(const Napi::CallbackInfo& info);

// userfaultfd_calls.cc
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
Napi::Value GuardStart(const Napi::CallbackInfo& info);
Napi::Value GuardDescribe(const Napi::CallbackInfo& info);
Napi::Value GuardBegin(const Napi::CallbackInfo& info);
Napi::Value GuardStop(const Napi::CallbackInfo& info);

// pack_calls.cc
Napi::Value PackPages(const Napi::CallbackInfo& info);
Napi::Value SendPages(const Napi::CallbackInfo& info);

// load_calls.cc
Napi::Value LoadRecords(const Napi::CallbackInfo& info);

// assemble_calls.cc
Napi::Value AssembleRecords(const Napi::CallbackInfo& info);

// place_calls.cc
Napi::Value PlaceRecords(const Napi::CallbackInfo& info);

// store_calls.cc
Napi::Value StoreRecords(const Napi::CallbackInfo& info);

// bitmap_calls.cc
Napi::Value BitmapRuns(const Napi::CallbackInfo& info);
Napi::Value BitmapFindNext(const Napi::CallbackInfo& info);
Napi::Value BitmapCount(const Napi::CallbackInfo& info);
Napi::Value BitmapFill(const Napi::CallbackInfo& info);
Napi::Value BitmapRoundOut(const Napi::CallbackInfo& info);
Napi::Value BitmapMerge(const Napi::CallbackInfo& info);
Napi::Value BytesAreZero(const Napi::CallbackInfo& info);

// socket_calls.cc
Napi::Value SocketSet(const Napi::CallbackInfo& info);
Napi::Value SocketGet(const Napi::CallbackInfo& info);
Napi::Value SocketOutstanding(const Napi::CallbackInfo& info);
Napi::Value SocketSend(const Napi::CallbackInfo& info);
Napi::Value FdSpin(const Napi::CallbackInfo& info);
Napi::Value SocketListenUnix(const Napi::CallbackInfo& info);
Napi::Value FdDuplicate(const Napi::CallbackInfo& info);
Napi::Value FdClose(const Napi::CallbackInfo& info);

}  // namespace postcopy
