{
  "target_defaults": {
    "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
    "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED",
      # For a worker that is being terminated: see native/args.h.
      "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
    "cflags": ["-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-O3"],
    "cflags_cc!": ["-std=gnu++17"],
    "cflags_cc": ["-std=gnu++20"],
    # Threads, leases and the registries outlive the worker whose end would unload the code under them.
    "ldflags": ["-Wl,-z,nodelete"],
  },
  "targets": [
    {
      "target_name": "postcopy",
      "sources": [
        "native/addon.cc",
        "native/region.cc",
        "native/memory.cc",
        "native/pagemap.cc",
        "native/userfaultfd.cc",
        "native/userfaultfd_calls.cc",
        "native/watch.cc",
        "native/fault_guard.cc",
        "native/thread.cc",
        "native/bitmap_calls.cc",
        "native/pack.cc",
        "native/load.cc",
        "native/place.cc",
        "native/store.cc",
        "native/sockets.cc",
        "native/process.cc",
      ],
    },
    {
      "target_name": "vcpu",
      "sources": [
        "native/vcpu_addon.cc",
        "native/machine.cc",
        "native/vcpu.cc",
        "native/workload.cc",
        "native/content.cc",
        "native/scan.cc",
        "native/thread.cc",
      ],
    },
    {
      "target_name": "lab",
      "sources": [
        "native/lab_addon.cc",
        "native/lab_syscall.cc",
        "native/lab_threads.cc",
        "native/lab_program.cc",
        "native/lab_responder.cc",
        "native/lab_signals.cc",
        "native/lab_receive.cc",
        "native/thread.cc",
      ],
    },
    {
      "target_name": "floor",
      "type": "executable",
      "sources": [
        "native/bench/floor.cc",
        "native/bench/ends.cc",
        "native/bench/push.cc",
        "native/bench/fault.cc",
        "native/bench/pager.cc",
        "native/workload.cc",
        "native/content.cc",
      ],
      # These are for addons.
      "ldflags!": ["-Wl,-z,nodelete", "-rdynamic"],
    },
  ],
}
