"""The stack that exec makes at one place and moves to another.

 exec     bprm_stack: one page at the very top, for the strings of argv and envp
          setup_arg_pages: moved to where this binary's stack ends (shift_arg_pages), given its final flags, grown by
          128 KB

Linux: mm/vma.c expand_downwards, fs/exec.c, 6.18 (2.6.23 and later for the move).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.areas.overcommit import RLIMIT_STACK, rlimit
from mmcore.areas.stack import expand_stack, insert_vm_struct
from mmcore.areas.vma import (
    VM_EXEC,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_STACK_FLAGS,
    VmArea,
)
from mmcore.calls.mprotect import mprotect_fixup
from mmcore.calls.mremap import shift_arg_pages
from mmcore.errors import SysError

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory

STACK_EXPAND = 131072  # bytes the stack is grown by at exec
_VM_STACK_INCOMPLETE_SETUP = VM_RAND_READ | VM_SEQ_READ


def bprm_stack(mem: Memory, mm: Mm, top: int) -> VmArea:
    """exec: the temporary stack, one page that ends at `top`, in an mm without areas. Raises OutOfMemory. Linux:
    __bprm_mm_init."""
    flags = VM_STACK_FLAGS | _VM_STACK_INCOMPLETE_SETUP
    vma = VmArea(mm, mem.vma_cache.alloc(), top - 4096, top, flags, mem.pgtables.prot(flags), 0, None, None)
    try:
        insert_vm_struct(mem, mm, vma)
    except SysError:
        vma.free(mem)
        raise
    return vma


def setup_arg_pages(mem: Memory, vma: VmArea, stack_top: int, executable: bool) -> None:
    """exec: the temporary stack moves so that it ends at `stack_top`, becomes an ordinary one and grows by 128 KB (or
    to RLIMIT_STACK). Raises SysError (exec's point of no return is behind: the caller kills). Linux: setup_arg_pages,
    fs/exec.c."""
    mm = vma.vm_mm
    shift = vma.vm_end - stack_top
    if shift:
        shift_arg_pages(mem, vma, shift)
    flags = vma.vm_flags & ~_VM_STACK_INCOMPLETE_SETUP & ~VM_EXEC | (VM_EXEC if executable else 0) | mm.def_flags
    if flags != vma.vm_flags:
        vma = mprotect_fixup(mem, mm, mm.index_of(vma), vma.vm_start, vma.vm_end, flags)
    limit = rlimit(mem, RLIMIT_STACK) & ~4095
    size = vma.vm_end - vma.vm_start
    base = vma.vm_end - limit if size + STACK_EXPAND > limit else vma.vm_start - STACK_EXPAND
    if base < vma.vm_start:
        expand_stack(mem, vma, base)
    if mm.start_stack == 0:
        mm.start_stack = vma.vm_start
