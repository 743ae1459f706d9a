// Registration only. An environment has no state: objects that threads share are in the registries,
// and a thread holds them by its handles. Therefore any number of workers can load this addon.
#include <napi.h>

#include "calls.h"
#include "common/values.h"

namespace postcopy {

namespace {

constexpr Export kExports[] = {
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
    {"pagemapScan", PagemapScan},
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
    {"guardDescribe", GuardDescribe},
    {"guardBegin", GuardBegin},
    {"guardStop", GuardStop},
    {"packPages", PackPages},
    {"sendPages", SendPages},
    {"loadRecords", LoadRecords},
    {"assembleRecords", AssembleRecords},
    {"placeRecords", PlaceRecords},
    {"storeRecords", StoreRecords},
    {"bitmapRuns", BitmapRuns},
    {"bitmapFindNext", BitmapFindNext},
    {"bitmapCount", BitmapCount},
    {"bitmapFill", BitmapFill},
    {"bitmapRoundOut", BitmapRoundOut},
    {"bitmapMerge", BitmapMerge},
    {"bytesAreZero", BytesAreZero},
    {"socketSet", SocketSet},
    {"socketGet", SocketGet},
    {"socketOutstanding", SocketOutstanding},
    {"socketSend", SocketSend},
    {"fdSpin", FdSpin},
    {"socketListenUnix", SocketListenUnix},
    {"fdDuplicate", FdDuplicate},
    {"fdClose", FdClose},
    {"processExit", ProcessExit},
};

Napi::Object Init(Napi::Env, Napi::Object exports) {
  return AddExports(exports, kExports);
}

}  // namespace

NODE_API_MODULE(postcopy, Init)

}  // namespace postcopy
