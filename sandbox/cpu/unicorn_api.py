"""The way to Unicorn: its C functions, handed to the trap loop, and engines of the one model the sandbox emulates.

The trap loop gets the addresses out of the library that the Python binding has loaded, so both work on the same engine.
"""

import ctypes
from typing import Any

from unicorn import UC_ARCH_X86, UC_ERR_NOMEM, UC_MODE_32, Uc, UcError
from unicorn.unicorn_py3.unicorn import uclib
from unicorn.x86_const import UC_CPU_X86_COREDUO

from mmcore.errors import ConfigError
from sandbox.cpu.errors import CpuError
from sandbox.cpu.interpose import ffi, lib
from sandbox.hostlimits import check_address_space, shortage

# In the order of `struct api` in trap.c.
_FUNCTIONS = (
    "uc_emu_start", "uc_emu_stop", "uc_hook_add", "uc_ctl", "uc_reg_read", "uc_reg_write",
    "uc_context_alloc", "uc_context_free", "uc_context_size", "uc_context_save", "uc_context_restore",
    "uc_context_reg_read", "uc_context_reg_write",
)  # fmt: skip

# PAE, NX and SSE2, but neither RDRAND (true randomness would reach the guest) nor XSAVE (whose state a signal frame of
# 2.6 has no room for).
MODEL = UC_CPU_X86_COREDUO


def _load() -> None:
    addresses = [ctypes.cast(getattr(uclib, name), ctypes.c_void_p).value for name in _FUNCTIONS]
    assert len(addresses) == lib.trap_api_entries()
    lib.trap_load_api(ffi.new("void *[]", [ffi.cast("void *", address) for address in addresses]))
    names = [ffi.string(lib.x87_helper(i)).decode() for i in range(lib.x87_helper_count())]
    own = [ctypes.cast(getattr(uclib, f"helper_{name}_x86_64"), ctypes.c_void_p).value for name in names]
    lib.x87_load(ffi.new("void *[]", [ffi.cast("void *", address) for address in own]))


_load()


def open_engine(address: int, size: int) -> Uc:
    """A fresh engine with `size` bytes of host memory at `address` as its physical memory from 0. Raises CpuError, and
    ConfigError when the host has no room for it."""
    check_address_space()
    try:
        uc = Uc(UC_ARCH_X86, UC_MODE_32)
        uc.ctl_set_cpu_model(MODEL)
        # Without exits the engine would translate the address given as the end of the run, once it has stopped.
        uc.ctl_exits_enabled(True)
        uc.mem_map_ptr(0, size, 7, ctypes.c_void_p(address))
    except UcError as error:
        if error.errno == UC_ERR_NOMEM:
            raise ConfigError(shortage(MemoryError())) from None
        raise CpuError(f"Unicorn cannot make an engine over {size} bytes of memory: {error}") from None
    return uc


def attach(uc: Uc, note_pages: bool) -> Any:
    """The trap loop's state for an engine that has not run yet; its hooks must exist before anything is translated.
    Raises CpuError."""
    state = lib.trap_open(ffi.cast("void *", uc._uch.value), note_pages)
    if not state:
        raise CpuError("Unicorn refuses the trap loop's hooks; install the release that rmapbox asks for")
    return ffi.gc(state, lib.trap_close)


def new_task(state: Any) -> Any:
    """A saved context and register file of the engine behind `state`. Raises MemoryError."""
    task = lib.trap_task_new(state)
    if not task:
        raise MemoryError("no memory for a CPU context")
    return ffi.gc(task, lib.trap_task_free)
