"""The same guest program three ways: on the host's own kernel, in the sandbox, and on a Unicorn engine without any hook
on its code."""

from __future__ import annotations

import functools
import mmap
import os
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from unicorn import UC_ARCH_X86, UC_HOOK_INTR, UC_MODE_32, Uc
from unicorn.x86_const import UC_X86_REG_EAX, UC_X86_REG_EBX, UC_X86_REG_ECX, UC_X86_REG_EDX, UC_X86_REG_ESP

from sandbox import toolchain
from sandbox.cpu import boot
from sandbox.cpu.unicorn_api import MODEL
from tests.cpu.conftest import GDT, GDT_VA, NX, PAGE, Bench, P, U, W

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300
_TOP = 0xC0000000


@functools.cache
def program(name: str) -> Path:
    """A bundled guest program, compiled."""
    return toolchain.program_path(name)


def _per_unit(output: bytes, row: str) -> float:
    """Seconds per unit out of the program's line `ROW units nanoseconds`."""
    name, units, nanoseconds = output.split()
    assert name.decode() == row, output
    return int(nanoseconds) / int(units) / 1e9


def warm(megabytes: int = 384) -> None:
    """Touches so much memory and gives it back. A virtual machine's own host takes free memory away, and the first
    touch after that costs several times what anything measured here costs; so every measure starts with memory that is
    there."""
    with mmap.mmap(-1, megabytes << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, megabytes << 20, 4096):
            memory[at] = 1


def _one_cpu() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def native(row: str, n: int = 0) -> float:
    """Seconds per unit of a row of rmap_bench on the host; two processes that answer each other share a CPU, which is
    fastest."""
    command = ["setarch", "i686", "-R", "-3", os.fspath(program("rmap_bench")), row, str(n)]
    return _per_unit(
        subprocess.run(
            command, check=True, stdout=subprocess.PIPE, timeout=SECONDS, preexec_fn=_one_cpu if row == "pipe" else None
        ).stdout,
        row,
    )


# Warm means compiled: an environment that forbids Python to keep its bytecode would have every start pay for compiling.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "sandbox.cli.main", "run", "--quiet", *words]


def sandbox(row: str, n: int = 0, scheme: str = "anon_vma", memory: str = "512M", clock: str = "host") -> float:
    """Seconds per unit of a row of rmap_bench in the sandbox, as its own command measures it."""
    command = _command(
        ["--rmap", scheme, "--memory", memory, "--clock", clock, "--audit", "off", "rmap_bench", row, str(n)]
    )
    return _per_unit(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=SECONDS, cwd=ROOT, env=_ENVIRONMENT).stdout,
        row,
    )


def wall(words: Sequence[str]) -> float:
    """Seconds of wall time of one `rmapbox run`."""
    start = time.perf_counter()
    subprocess.run(_command(words), check=True, stdout=subprocess.DEVNULL, timeout=SECONDS, cwd=ROOT, env=_ENVIRONMENT)
    return time.perf_counter() - start


def bare_interpreter() -> float:
    """Seconds of wall time to start Python and load the two libraries that nothing here works without."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "import numpy, unicorn"], check=True, timeout=SECONDS, cwd=ROOT, env=_ENVIRONMENT
    )
    return time.perf_counter() - start


def resident(words: Sequence[str]) -> float:
    """Bytes of host memory, at its peak, of one `rmapbox run`."""
    # By way of a small process: a child's peak starts at the size of what forked it.
    script = (
        "import os, subprocess, sys; child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "_, status, usage = os.wait4(child.pid, 0); print(status, usage.ru_maxrss)"
    )
    said = subprocess.run(
        [sys.executable, "-S", "-c", script, *_command(words)],
        check=True,
        stdout=subprocess.PIPE,
        timeout=SECONDS,
        cwd=ROOT,
        env=_ENVIRONMENT,
    ).stdout
    status, kilobytes = map(int, said.split())
    assert status == 0
    return float(kilobytes << 10)


def swap_out(megabytes: int, memory: str, swap: str) -> float:
    """Pages per second of a sequential write of `megabytes` in a machine of `memory`; start-up and end of the command
    are taken off."""
    machine = ["--memory", memory, "--swap", swap, "rmap_bench", "swapwrite"]
    empty = wall([*machine, "1"])
    return (megabytes - 1) * 256 / (wall([*machine, str(megabytes)]) - empty)


# --- without hooks


def bare(row: str, n: int = 0) -> float:
    """Seconds per unit of a row that computes and does not need a kernel, on an engine without block hooks, over page
    tables of the machine's paging.

    An interrupt callback answers the handful of calls of the runtime's start; no code of the guest's is instrumented.
    """
    image = _Image(program("rmap_bench"), [b"rmap_bench", row.encode(), str(n).encode()])
    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.ctl_set_cpu_model(MODEL)
    uc.mem_map_ptr(0, image.ram.size, 7, image.ram.address)
    boot.start_paging(uc, "pae", image.cr3, GDT_VA)
    uc.reg_write(UC_X86_REG_ESP, image.stack)
    uc.hook_add(UC_HOOK_INTR, image.serve)
    uc.emu_start(image.start, 0xFFFFFFF0)
    image.cpu.close()
    return _per_unit(b"".join(image.out), row)


class _Image(Bench):
    """A static program and its stack, wholly mapped, and the few answers it needs. `start`, `stack`: where it
    starts; `out`: what it wrote."""

    def __init__(self, path: Path, argv: list[bytes]) -> None:
        super().__init__("pae", size=16 << 20)
        self.out: list[bytes] = []
        with path.open("rb") as file:
            elf = ELFFile(file)
            self.start = int(elf.header.e_entry)
            header = elf.header
            segments = [(s.header, s.data()) for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        for load, data in segments:
            self._segment(load, data)
        for page in range(_TOP - 32 * PAGE, _TOP, PAGE):
            self.map(page, None, P | U | W | NX)
        headers = next(
            h.p_vaddr + header.e_phoff - h.p_offset
            for h, _ in segments
            if h.p_offset <= header.e_phoff < h.p_offset + h.p_filesz
        )
        self.stack = self._initial_stack(argv, [3, headers, 4, header.e_phentsize, 5, header.e_phnum, 6, PAGE, 0, 0])

    def _segment(self, load: Any, data: bytes) -> None:
        bits = P | U | (W if load.p_flags & 2 else 0) | (0 if load.p_flags & 1 else NX)
        for page in range(load.p_vaddr & ~(PAGE - 1), load.p_vaddr + load.p_memsz, PAGE):
            frame = self.map(page, None, bits)
            low = max(page, load.p_vaddr)
            piece = data[low - load.p_vaddr : page + PAGE - load.p_vaddr]
            self.ram.buf[frame + low - page : frame + low - page + len(piece)] = piece

    def _initial_stack(self, argv: list[bytes], auxv: list[int]) -> int:
        """argc, argv, an empty environment and the auxiliary vector that the runtime's start needs."""
        at, pointers = _TOP - 16, []
        for word in argv:
            at -= len(word) + 1
            self.write(at, word + b"\0")
            pointers.append(at)
        words = [len(pointers), *pointers, 0, 0, *auxv]
        at = (at & ~15) - 4 * len(words) & ~15
        self.write(at, struct.pack(f"<{len(words)}I", *words))
        return at

    def _physical(self, address: int) -> int:
        return self.entry_of(address) & 0xFFFFF000 | address & 0xFFF

    def entry_of(self, address: int) -> int:
        """The last-level entry of an address."""
        at = self.pte(address)
        return int.from_bytes(self.ram.buf[at : at + 8], "little")

    def read(self, address: int, n: int) -> bytes:
        """Bytes of the program's memory."""
        return bytes(self.ram.buf[self._physical(a)] for a in range(address, address + n))

    def write(self, address: int, data: bytes) -> None:
        """Changes the program's memory."""
        for a, byte in enumerate(data, address):
            self.ram.buf[self._physical(a)] = byte

    def serve(self, uc: Uc, vector: int, _user: object) -> None:
        """The program's system calls."""
        nr, a, b, c = (uc.reg_read(r) for r in (UC_X86_REG_EAX, UC_X86_REG_EBX, UC_X86_REG_ECX, UC_X86_REG_EDX))
        assert vector == 0x80, f"vector {vector} in a program that needs no kernel"
        result = -38
        if nr in (1, 252):
            uc.emu_stop()
            return
        if nr == 4:
            self.out.append(self.read(b, c))
            result = c
        elif nr == 243:  # set_thread_area
            base = struct.unpack("<I", self.read(a + 4, 4))[0]
            descriptor = 0x00CFF3000000FFFF | (base & 0xFFFFFF) << 16 | (base >> 24) << 56
            self.ram.buf[GDT + 48 : GDT + 56] = descriptor.to_bytes(8, "little")
            self.write(a, struct.pack("<I", 6))
            result = 0
        elif nr in (265, 403):  # clock_gettime, clock_gettime64
            seconds, rest = divmod(time.monotonic_ns(), 1_000_000_000)
            self.write(b, struct.pack("<QQ" if nr == 403 else "<II", seconds, rest))
            result = 0
        elif nr == 258:  # set_tid_address
            result = 1
        uc.reg_write(UC_X86_REG_EAX, result & 0xFFFFFFFF)
