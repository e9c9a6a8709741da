"""mprotect: the areas of a range get other permissions, and their PTEs with them.

Per area: limits and commit -> merge with a neighbour or split off -> flags -> PTEs. An error in a later area leaves the
earlier ones changed, as Linux does. A private page made writable again stays write-protected until its next write
fault. Linux: mm/mprotect.c; errors as in 6.18, PTEs as in 2.6.7.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from mmcore.areas.adjust import vma_modify_flags
from mmcore.areas.overcommit import may_expand_vm
from mmcore.areas.vma import (
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_NORESERVE,
    VM_SHARED,
    VM_WRITE,
    VmArea,
    is_data_mapping,
    page_prot,
    vm_stat_account,
)
from mmcore.errors import SysError
from mmcore.physical.frames import PG_CODE
from mmcore.physical.pgtable import PRESENT, A, D
from mmcore.physical.pterange import PteRange, pte_slices

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory

PROT_READ, PROT_EXEC, PROT_SEM = 1, 4, 8
PROT_GROWSDOWN, PROT_GROWSUP = 0x01000000, 0x02000000
_FEW = 24  # up to so many entries the scalar loop wins


def do_mprotect(mem: Memory, mm: Mm, start: int, length: int, prot: int) -> None:
    """Gives `[start, start + length)` (bytes) the permissions `prot`. Raises EINVAL (arguments), ENOMEM (a hole,
    limits; what lies before the hole is changed), EACCES (a file's mode forbids it). Linux: do_mprotect_pkey, 6.18."""
    grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP)
    if grows == PROT_GROWSDOWN | PROT_GROWSUP or start & 4095:
        raise SysError(errno.EINVAL)
    if not length:
        return
    end = start + (length + 4095 & ~4095)
    if prot & ~(7 | PROT_SEM):
        raise SysError(errno.EINVAL)
    i = _first_area(mm, start, end, grows)
    vmas = mm.vmas
    vma = vmas[i]
    if grows:
        start = vma.vm_start
    read_implies_exec = mm.read_implies_exec and prot & PROT_READ
    while True:
        flags = vma.vm_flags & ~VM_ACCESS_FLAGS | prot & VM_ACCESS_FLAGS
        if read_implies_exec and vma.vm_flags & VM_MAYEXEC:
            flags |= VM_EXEC
        if flags & ~(flags >> 4) & VM_ACCESS_FLAGS:
            raise SysError(errno.EACCES)
        stop = vma.vm_end if vma.vm_end < end else end
        if flags != vma.vm_flags:
            mprotect_fixup(mem, mm, i, start, stop, flags)
        if stop >= end:
            return
        start = stop
        i = mm.find_index(start)
        if i >= len(vmas) or vmas[i].vm_start > start:  # it starts below where the one before has just joined it
            raise SysError(errno.ENOMEM)
        vma = vmas[i]


def _first_area(mm: Mm, start: int, end: int, grows: int) -> int:
    """Position of the area the change begins in, at its start for PROT_GROWSDOWN. Raises ENOMEM (none), EINVAL (it does
    not grow that way)."""
    i = mm.find_index(start)
    if i >= len(mm.vmas):
        raise SysError(errno.ENOMEM)
    vma = mm.vmas[i]
    if grows & PROT_GROWSDOWN:
        if vma.vm_start >= end:
            raise SysError(errno.ENOMEM)
        if not vma.vm_flags & VM_GROWSDOWN:
            raise SysError(errno.EINVAL)
        return i
    if vma.vm_start > start:
        raise SysError(errno.ENOMEM)
    if grows:
        raise SysError(errno.EINVAL)  # no area grows up on this machine
    return i


def mprotect_fixup(mem: Memory, mm: Mm, i: int, start: int, end: int, flags: int) -> VmArea:
    """`[start, end)` of the area at position `i` gets `flags`, with limits, commit, totals and PTEs. Returns the
    area that holds it. Raises SysError(ENOMEM) with nothing changed."""
    vma = mm.vmas[i]
    old = vma.vm_flags
    pages = end - start >> 12
    charged = 0
    if flags & VM_WRITE:
        # Only what becomes data here can exceed a limit: RLIMIT_AS counted these pages before.
        if (
            is_data_mapping(flags)
            and not is_data_mapping(old)
            and not may_expand_vm(mem, mm, flags, pages)
            and may_expand_vm(mem, mm, old, pages)
        ):
            raise SysError(errno.ENOMEM)
        if not old & (VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE):
            charged = pages
            mem.overcommit.vm_enough_memory(mm, pages)
            flags |= VM_ACCOUNT
    try:
        area = vma_modify_flags(mem, mm, i, start, end, flags)
    except SysError:
        mem.overcommit.committed -= charged
        raise
    prot = page_prot(mem, area.mapping, flags)
    area.vm_flags = flags
    area.vm_page_prot = prot
    if mm.nr_ptes:
        change_protection(mem, area, start, end, prot)
    vm_stat_account(mm, old, -pages)
    vm_stat_account(mm, flags, pages)
    if old & (VM_WRITE | VM_SHARED | VM_LOCKED) == VM_LOCKED and flags & VM_WRITE:
        mem.faults.make_pages_present(mm, start, end)
    return area


def change_protection(mem: Memory, vma: VmArea, start: int, end: int, prot: int) -> None:
    """The present PTEs of `[start, end)` keep frame, A and D, and take the bits `prot`."""
    pgtables = mem.pgtables
    ptes = pgtables.ptes
    keep = pgtables.PFN_MASK << 12 | A | D
    changed = False
    code = vma.vm_flags & VM_EXEC
    flags = mem.frames.flags
    if end - start == 4096:
        i = pgtables.pte_index(vma.vm_mm.pgd, start)
        slices = [(i, i + 1)] if i >= 0 else []
    else:
        slices = pte_slices(pgtables, vma.vm_mm.pgd, start, end)
    many = []
    for i, j in slices:
        if j - i > _FEW:
            many.append((i, j))
            continue
        for k in range(i, j):
            pte = ptes[k]
            if pte & PRESENT:
                ptes[k] = pte & keep | prot
                changed = True
                if code:
                    flags[pte >> 12 & pgtables.PFN_MASK] |= PG_CODE
    if many:
        entries = PteRange(pgtables, many).read()
        if entries.protect(keep, prot):
            changed = True
            if code:
                mem.frames.np_flags[entries.pfns(entries.present())] |= np.uint32(PG_CODE)
    if changed:
        vma.vm_mm.flush_pending = True
        if code:
            # Stores through a writable, non-executable mapping leave translations of the page standing.
            mem.flush_code = True
