"""TLS segments: struct user_desc of the guest and 64-bit descriptors of the CPU.

Three entries of the descriptor table, 6 to 8, belong to the running task and are loaded when it is switched to.
Linux: include/asm-i386/ldt.h, desc.h, segment.h, arch/i386/kernel/process.c (do_set_thread_area), 2.6.7.
"""

from __future__ import annotations

import struct

GDT_TLS_MIN, GDT_TLS_MAX = 6, 8
_USER_DESC = struct.Struct("<4I")


class UserDesc:
    """entry_number, base_addr, limit, and the flag bits: seg_32bit 1, contents 2 bits, read_exec_only, limit_in_pages,
    seg_not_present, useable."""

    __slots__ = ("entry_number", "base", "limit", "flags")

    def __init__(self, entry_number: int, base: int, limit: int, flags: int) -> None:
        self.entry_number = entry_number
        self.base = base
        self.limit = limit
        self.flags = flags

    @classmethod
    def unpack(cls, data: bytes) -> UserDesc:
        """From the 16 bytes of the guest's structure."""
        return cls(*_USER_DESC.unpack(data))

    def pack(self) -> bytes:
        return _USER_DESC.pack(self.entry_number, self.base, self.limit, self.flags)

    def empty(self) -> bool:
        """The two ways to say "clear the entry"."""
        return not self.base and not self.limit and self.flags & 0x7F in (0x28, 0)

    def acceptable(self) -> bool:
        """Linux: tls_desc_okay; 16-bit, code and absent segments are refused."""
        if self.empty():
            return True
        return bool(self.flags & 1) and self.flags >> 1 & 3 <= 1 and not self.flags & 0x20

    def settable(self) -> bool:
        """Fit for CLONE_SETTLS: names one of the three entries."""
        return GDT_TLS_MIN <= self.entry_number <= GDT_TLS_MAX and self.acceptable()

    def descriptor(self) -> int:
        """The 64-bit descriptor; 0 for an empty one."""
        if self.empty():
            return 0
        base, limit, flags = self.base, self.limit, self.flags
        low = (base & 0xFFFF) << 16 | limit & 0xFFFF
        high = (
            base & 0xFF000000
            | base >> 16 & 0xFF
            | limit & 0xF0000
            | (flags >> 3 & 1 ^ 1) << 9
            | (flags >> 1 & 3) << 10
            | (flags >> 5 & 1 ^ 1) << 15
            | (flags & 1) << 22
            | (flags >> 4 & 1) << 23
            | (flags >> 6 & 1) << 20
            | 0x7000
        )
        return high << 32 | low

    @classmethod
    def from_descriptor(cls, entry_number: int, descriptor: int) -> UserDesc:
        """What get_thread_area shows of an entry."""
        low, high = descriptor & 0xFFFFFFFF, descriptor >> 32
        base = low >> 16 | (high & 0xFF) << 16 | high & 0xFF000000
        limit = low & 0xFFFF | high & 0xF0000
        if not descriptor:
            return cls(entry_number, 0, 0, 0x28)
        flags = (
            high >> 22 & 1
            | (high >> 10 & 3) << 1
            | (high >> 9 & 1 ^ 1) << 3
            | (high >> 23 & 1) << 4
            | (high >> 15 & 1 ^ 1) << 5
            | (high >> 20 & 1) << 6
        )
        return cls(entry_number, base, limit, flags)
