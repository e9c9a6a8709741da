"""Physical memory: one sparse buffer, seen as bytes, as words and as numpy arrays, shared with the emulated CPU."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PAGE_MASK = ~(PAGE_SIZE - 1)

_MAP_NORESERVE = 0x4000  # missing from CPython 3.11's mmap module
_ZERO_PAGE = bytes(PAGE_SIZE)


def anonymous_buffer(nbytes: int) -> mmap.mmap:
    """A zeroed host buffer whose untouched pages cost nothing."""
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)


class Ram:
    """`size` bytes of RAM at physical address 0. Addresses are physical, in bytes; `pfn` counts 4096-byte
    frames."""

    __slots__ = ("size", "nr_frames", "buf", "address", "u8", "u32", "u64", "np8", "np32", "np64", "_anchor")

    def __init__(self, size: int) -> None:
        if size <= 0 or size % PAGE_SIZE:
            raise ValueError(f"RAM of {size} bytes is not a positive multiple of {PAGE_SIZE}")
        self.size = size
        self.nr_frames = size >> PAGE_SHIFT
        self.buf = anonymous_buffer(size)
        if size >= 32 << 20:
            # The first touch of cold host memory costs more than the whole fault path; huge pages divide it by 512.
            self.buf.madvise(mmap.MADV_HUGEPAGE)
        self._anchor = ctypes.c_char.from_buffer(self.buf)
        self.address = ctypes.addressof(self._anchor)
        self.u8 = memoryview(self.buf)
        self.u32 = self.u8.cast("I")
        self.u64 = self.u8.cast("Q")
        self.np8 = np.frombuffer(self.buf, np.uint8)
        self.np32 = np.frombuffer(self.buf, np.uint32)
        self.np64 = np.frombuffer(self.buf, np.uint64)

    def zero(self, pfn: int) -> None:
        base = pfn << PAGE_SHIFT
        self.u8[base : base + PAGE_SIZE] = _ZERO_PAGE

    def copy(self, dst: int, src: int) -> None:
        """Copies frame `src` to frame `dst`."""
        d, s = dst << PAGE_SHIFT, src << PAGE_SHIFT
        u8 = self.u8
        u8[d : d + PAGE_SIZE] = u8[s : s + PAGE_SIZE]

    def page(self, pfn: int) -> memoryview:
        base = pfn << PAGE_SHIFT
        return self.u8[base : base + PAGE_SIZE]

    def read(self, paddr: int, n: int) -> bytes:
        return bytes(self.u8[paddr : paddr + n])

    def write(self, paddr: int, data: bytes) -> None:
        self.u8[paddr : paddr + len(data)] = data
