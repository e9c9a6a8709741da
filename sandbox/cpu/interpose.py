"""The trap loop's module, loaded before Unicorn and with its symbols global: so the linker gives Unicorn's library the
x87 helpers of x87.c in place of its own. Whoever imports Unicorn before this package gets Unicorn's own (`x87.mended`
tells)."""

import os
import sys

from sandbox.cpu.errors import CpuError

_flags = sys.getdlopenflags()
sys.setdlopenflags(_flags | os.RTLD_GLOBAL)
try:
    from sandbox.cpu._trap import ffi, lib
except ImportError as error:
    raise CpuError(
        f"the CPU's trap loop is not built ({error}); run `python sandbox/cpu/build_trap.py`, or `pip install .` again"
    ) from None
finally:
    sys.setdlopenflags(_flags)

if not hasattr(lib, "x87_load"):
    raise CpuError(
        "the CPU's trap loop was built from older sources; run `python sandbox/cpu/build_trap.py`, or `pip install "
        ".` again"
    )

__all__ = ["ffi", "lib"]
