"""A bare machine for the CPU's tests: RAM, page tables built by hand for either paging, code given as bytes."""

import ctypes
import mmap
import struct
from types import SimpleNamespace

import pytest

from sandbox.cpu import Cpu
from sandbox.cpu.regs import EIP, ESP

MAP_NORESERVE = 0x4000
PAGE = 4096
P, W, U, A, D, NX = 1, 2, 4, 0x20, 0x40, 1 << 63

GDT_VA, BOOT_VA = 0xFFFF0000, 0xFFFF1000
GDT, BOOT = 0x1000, 0x2000
CODE, DATA, STACK = 0x08048000, 0x08060000, 0xBFFFE000

EXIT = b"\xcd\x80"  # int 0x80


class Ram:
    """Zeroed memory that costs nothing until touched."""

    def __init__(self, size):
        self.size = size
        self.buf = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.buf))


class Bench:
    """One CPU, any number of roots. Frames are handed out upwards from 64 KB and never come back."""

    def __init__(self, paging, size=32 << 20):
        self.paging = paging
        self.pae = paging == "pae"
        self.ram = Ram(size)
        self.next_frame = 0x10000
        self.kernel = {GDT_VA: GDT, BOOT_VA: BOOT}
        self.boot_cr3 = self.root()
        self.cpu = Cpu(
            self.ram,
            paging=paging,
            boot_cr3=self.boot_cr3,
            gdt_va=GDT_VA,
            gdt_paddr=GDT,
            boot_va=BOOT_VA,
            boot_paddr=BOOT,
        )
        self.cr3 = self.root()
        self.ctx = self.cpu.new_context()
        self.regs = self.ctx.regs

    def frame(self):
        self.next_frame += PAGE
        assert self.next_frame < self.ram.size
        return self.next_frame - PAGE

    def entry(self, at, value=None):
        width, form = (8, "<Q") if self.pae else (4, "<I")
        if value is None:
            return struct.unpack_from(form, self.ram.buf, at)[0]
        self.ram.buf[at : at + width] = struct.pack(form, value)
        return None

    def root(self):
        cr3 = self.frame()
        if self.pae:
            for i in range(4):
                self.entry(cr3 + 8 * i, self.frame() | P)
        for va, pa in self.kernel.items():
            self.map(va, pa, P | W, cr3)
        return cr3

    def pte(self, va, cr3=None, make=False):
        """Physical address of the last-level entry of `va`."""
        table = cr3 or self.cr3
        levels = ((30, 8, 4), (21, 8, 512)) if self.pae else ((22, 4, 1024),)
        for shift, width, count in levels:
            at = table + (va >> shift) % count * width
            if not self.entry(at):
                assert make, f"{va:#x} has no page table"
                self.entry(at, self.frame() | P | W | U)
            table = self.entry(at) & 0xFFFFF000
        return table + (va >> 12) % (512 if self.pae else 1024) * (8 if self.pae else 4)

    def map(self, va, pa=None, flags=P | W | U, cr3=None):
        """Map one page; a fresh frame unless one is given. Returns the frame. NX is dropped under 2-level paging."""
        pa = self.frame() if pa is None else pa
        self.entry(self.pte(va, cr3, make=True), pa | (flags if self.pae else flags & ~NX))
        return pa

    def load(self, code, va=CODE, cr3=None):
        """Code on fresh pages, a data page and a stack page; registers ready to run it."""
        frame = None
        for offset in range(0, len(code), PAGE):
            frame = self.map(va + offset, None, P | U, cr3)
            chunk = code[offset : offset + PAGE]
            self.ram.buf[frame : frame + len(chunk)] = chunk
        self.regs[EIP], self.regs[ESP] = va, STACK + PAGE
        return frame

    def with_data(self):
        self.map(STACK, None, P | W | U | NX)
        return self.map(DATA, None, P | W | U | NX)

    def run(self, budget=10_000, ctx=None, cr3=None):
        return self.cpu.run(ctx or self.ctx, cr3 or self.cr3, budget)


@pytest.fixture(params=["pae", "2level"])
def bench(request):
    bench = Bench(request.param)
    yield bench
    bench.cpu.close()


@pytest.fixture
def pae():
    bench = Bench("pae")
    yield bench
    bench.cpu.close()


@pytest.fixture
def code():
    """Constants by name, for tests that read like a listing."""
    return SimpleNamespace(CODE=CODE, DATA=DATA, STACK=STACK, EXIT=EXIT)
