"""The emulated CPU: one i386 that runs guest tasks until they need the kernel.

Everything known about Unicorn, its private state and its traps stays in this package.
"""

import sandbox.cpu.interpose  # noqa: F401  before anything imports Unicorn
from sandbox.cpu.context import Context
from sandbox.cpu.cpu import Cpu
from sandbox.cpu.errors import CpuError, CpuGap

__all__ = ["Context", "Cpu", "CpuError", "CpuGap"]
