"""What an executable file says: ELF headers of i386 programs, and the first line of scripts.

Only headers are read here; sandbox.kernel.exec maps what they ask for. Linux: fs/binfmt_elf.c, fs/binfmt_script.c.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from mmcore.physical.pgtable import TASK_SIZE
from mmcore.physical.ram import PAGE_SIZE

if TYPE_CHECKING:
    from sandbox.fs.file import File

BINPRM_BUF_SIZE = 256
ELF_MIN_ALIGN = PAGE_SIZE

ET_EXEC, ET_DYN = 2, 3
EM_386, EM_486 = 3, 6
PT_LOAD, PT_INTERP, PT_PHDR = 1, 3, 6
PT_GNU_STACK = 0x6474E551
PF_X, PF_W, PF_R = 1, 2, 4

EXSTACK_DEFAULT, EXSTACK_DISABLE_X, EXSTACK_ENABLE_X = 0, 1, 2

_EHDR = struct.Struct("<16s HHIIIIIHHHHHH")
_PHDR = struct.Struct("<8I")


def is_i386(ident: bytes, machine: int) -> bool:
    """32 bits, little-endian, for this CPU. Linux: elf_check_arch, include/asm-i386/elf.h."""
    return ident[4] == 1 and ident[5] == 1 and machine in (EM_386, EM_486)


class Segment:
    """One PT_LOAD. All values as in the header; `flags` PF_R, PF_W, PF_X."""

    __slots__ = ("offset", "vaddr", "filesz", "memsz", "flags", "align")

    def __init__(self, offset: int, vaddr: int, filesz: int, memsz: int, flags: int, align: int) -> None:
        self.offset = offset
        self.vaddr = vaddr
        self.filesz = filesz
        self.memsz = memsz
        self.flags = flags
        self.align = align


class ElfImage:
    """The headers of one ELF file."""

    __slots__ = ("type", "entry", "phoff", "phnum", "segments", "interp", "stack", "phdr_vaddr")

    def __init__(self, header: bytes, file: File, *, interpreter: bool = False) -> None:
        """Reads what lies beyond `header` (the first bytes of the file) by `file.pread`, which may raise MustWait.

        Raises ENOEXEC for what is not an i386 executable (ELIBBAD for an interpreter), EIO or ENOEXEC for one cut
        short.
        """
        bad = errno.ELIBBAD if interpreter else errno.ENOEXEC
        if len(header) < _EHDR.size or header[:4] != b"\x7fELF":
            raise SysError(bad)
        ident, self.type, machine, _, self.entry, self.phoff, _, _, _, phentsize, self.phnum, _, _, _ = (
            _EHDR.unpack_from(header)
        )
        if not is_i386(ident, machine) or self.type not in (ET_EXEC, ET_DYN):
            raise SysError(bad)
        size = self.phnum * _PHDR.size
        if phentsize != _PHDR.size or not 0 < self.phnum <= 65536 // _PHDR.size:
            raise SysError(bad)
        table = header[self.phoff : self.phoff + size]
        if len(table) < size:
            table = file.pread(self.phoff, size)
        if len(table) < size:
            raise SysError(errno.EIO)
        self.segments: list[Segment] = []
        self.interp: bytes | None = None
        self.stack = EXSTACK_DEFAULT
        self.phdr_vaddr = 0
        for p_type, offset, vaddr, _, filesz, memsz, flags, align in _PHDR.iter_unpack(table):
            if p_type == PT_LOAD:
                self.segments.append(Segment(offset, vaddr, filesz, memsz, flags, align))
                if not self.phdr_vaddr and offset <= self.phoff < offset + filesz:
                    self.phdr_vaddr = vaddr + self.phoff - offset
            elif p_type == PT_INTERP and self.interp is None:
                self.interp = self._interp(file, offset, filesz)
            elif p_type == PT_GNU_STACK:
                self.stack = EXSTACK_ENABLE_X if flags & PF_X else EXSTACK_DISABLE_X
            elif p_type == PT_PHDR:
                self.phdr_vaddr = vaddr
        if interpreter and not self.segments:
            raise SysError(bad)

    @staticmethod
    def _interp(file: File, offset: int, size: int) -> bytes:
        if not 2 <= size <= 4096:
            raise SysError(errno.ENOEXEC)
        name = file.pread(offset, size)
        if len(name) < size:
            raise SysError(errno.EIO)
        if name[-1]:
            raise SysError(errno.ENOEXEC)
        return name.split(b"\0", 1)[0]

    def check(self) -> None:
        """Every segment fits below TASK_SIZE. Raises EINVAL."""
        for segment in self.segments:
            if segment.filesz > segment.memsz or segment.memsz > TASK_SIZE or segment.vaddr > TASK_SIZE - segment.memsz:
                raise SysError(errno.EINVAL)

    def span(self) -> int:
        """Bytes from the first segment's first page to the end of the last segment. Linux: total_mapping_size."""
        low = min(segment.vaddr & ~(PAGE_SIZE - 1) for segment in self.segments)
        return max(segment.vaddr + segment.memsz for segment in self.segments) - low

    def alignment(self) -> int:
        """Largest power-of-two alignment that a segment asks for. Linux: maximum_alignment."""
        return max((s.align for s in self.segments if s.align and not s.align & (s.align - 1)), default=PAGE_SIZE)


def script_interpreter(header: bytes) -> tuple[bytes, bytes | None] | None:
    """(interpreter, its one optional argument) of a `#!` line, None for another kind of file. Raises ENOEXEC.

    A line longer than the 256-byte buffer is cut when only the argument suffers. Linux: fs/binfmt_script.c, 5.1 and
    later.
    """
    if header[:2] != b"#!":
        return None
    line, newline, _ = header[2:BINPRM_BUF_SIZE].partition(b"\n")
    if not newline and len(header) >= BINPRM_BUF_SIZE:
        line = line[:-1]  # the buffer's last byte is for a NUL
        rest = line.lstrip(b" \t")
        if not any(blank in rest for blank in (b" ", b"\t", b"\0")):
            raise SysError(errno.ENOEXEC)
    line = line.split(b"\0", 1)[0].strip(b" \t")
    if not line:
        raise SysError(errno.ENOEXEC)
    parts = line.replace(b"\t", b" ", 1).split(b" ", 1) if b"\t" in line.split(b" ", 1)[0] else line.split(b" ", 1)
    argument = parts[1].strip(b" \t") if len(parts) > 1 else b""
    return parts[0], argument or None
