"""swapoff: everything in a swap area comes back, then the area is gone.

 for each slot in use: read its page in
                       -> whoever names the slot gets the page: a PTE of any mm, as a fault would put it there;
                          a tmpfs file, back into its cache
                       -> the swap cache lets go of it

The area hands out no new slot meanwhile, so it ends. Other tasks run while a page is read or written; forks and moves
of theirs only spread or carry entries, which the search through every page table finds wherever they are. With ENOMEM
it stops half-way: what came in stays in, and the area is in use again. Linux: try_to_unuse and sys_swapoff,
mm/swapfile.c, 2.6.7. It left entries to later rounds that a fault or a fork had just then in hand; here nothing runs
between a page's first PTE and its last.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import numpy as np

from mmcore.areas.vma import VM_EXEC
from mmcore.errors import InvariantViolation, OutOfMemory, SysError
from mmcore.files.shmem import ShmemSpace
from mmcore.physical.frames import PG_CODE, PG_DIRTY, PG_LOCKED, PG_SWAPCACHE, PG_WRITEBACK
from mmcore.physical.pgtable import TASK_SIZE, A, W
from mmcore.swap.device import SWAP_MAP_MAX, SwapDevice

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory
    from mmcore.wait import WaitQueue


def swap_off(
    mem: Memory, area: SwapDevice, interrupted: Callable[[], bool] = lambda: False
) -> Generator[WaitQueue, None, None]:
    """Empties a swap area and turns it off; yields what has to be waited for. `interrupted`: a signal wants it to
    stop.

    Raises SysError: EINVAL (it is not in use), ENOMEM (no room for what is on it, or none in the overcommit limit),
    EINTR; the area is in use then.
    """
    if not area.writeok:
        raise SysError(errno.EINVAL, "the swap area is not in use")
    mem.overcommit.charge(area.total)
    mem.overcommit.uncharge(area.total)
    mem.swap.areas.leave(area)
    try:
        yield from try_to_unuse(mem, area, interrupted)
    except BaseException:
        mem.swap.areas.come_back(area)
        raise
    area.turn_off()


def try_to_unuse(mem: Memory, area: SwapDevice, interrupted: Callable[[], bool]) -> Generator[WaitQueue, None, None]:
    """Frees every slot, in order: none comes into use behind it. Raises as swap_off."""
    swap, flags = mem.swap, mem.frames.flags
    slots = swap.areas.slots(area)
    np_map = swap.areas.np_map[: slots.stop]
    # Files are given no new slots of this area, so where an entry of theirs stands now it stands till it is freed.
    files = {
        entry: (space, index)
        for space in mem.mappings.values()
        if isinstance(space, ShmemSpace)
        for index, entry in space.swapped.items()
    }
    start_mm: Mm | None = None
    entry = slots.start - 1
    while True:
        ahead = np.flatnonzero(np_map[entry + 1 :])
        if not len(ahead):
            return
        entry += 1 + int(ahead[0])
        if interrupted():
            raise SysError(errno.EINTR)
        while True:
            pfn = swap.read_swap_cache_async(entry)
            if pfn < 0 or not flags[pfn] & (PG_LOCKED | PG_WRITEBACK):
                break
            mem.awaited.keep(pfn)
            mem.pages.put_page(pfn)
            yield mem.disk.page_wait(pfn)
        mem.awaited.let_go(mem.current)
        if pfn >= 0:
            start_mm = _unuse(mem, entry, pfn, start_mm, files.get(entry))
        elif np_map[entry]:
            raise OutOfMemory("no frame to read a swapped page into")


def _unuse(mem: Memory, entry: int, pfn: int, start_mm: Mm | None, file: tuple[ShmemSpace, int] | None) -> Mm | None:
    """Gives a cached, idle page to all who name its entry and takes it out of the cache. Takes over the caller's
    reference. Answers the address space to search first for the next: neighbours on the device mostly belong together.
    Raises OutOfMemory."""
    swap, frames = mem.swap, mem.frames
    frames.flags[pfn] |= PG_LOCKED  # reclaim and a dying victim's exit leave it alone
    try:
        if file is not None and file[0].swapped.get(file[1]) == entry:
            file[0].from_swap(pfn, file[1], entry)
        else:
            start_mm = _unuse_mms(mem, entry, pfn, start_mm)
            if swap.map[entry] == SWAP_MAP_MAX:  # the count has been too large to keep; everybody was found
                swap.map[entry] = 1
            if swap.map[entry] != 1:
                raise InvariantViolation(
                    f"swap slot {entry:#x}: {swap.map[entry] - 1} users are in no page table and no file"
                )
        if frames.flags[pfn] & PG_SWAPCACHE:
            swap.delete_from_swap_cache(pfn)
            frames.flags[pfn] |= PG_DIRTY  # nowhere but in RAM now
    finally:
        frames.flags[pfn] &= ~PG_LOCKED
        mem.disk.wake_page(pfn)
        mem.pages.put_page(pfn)
    return start_mm


def _unuse_mms(mem: Memory, entry: int, pfn: int, start_mm: Mm | None) -> Mm | None:
    swap = mem.swap
    mms = list(mem.mms.values())
    if start_mm in mms:
        mms.remove(start_mm)
        mms.insert(0, start_mm)
    first = None
    for mm in mms:
        if swap.map[entry] == 1:
            break
        before = swap.map[entry]
        _unuse_process(mem, mm, entry, pfn)
        if first is None and swap.map[entry] < before:
            first = mm
    return first or start_mm


def _unuse_process(mem: Memory, mm: Mm, entry: int, pfn: int) -> None:
    """Puts the page wherever the address space's tables name its entry. Raises OutOfMemory."""
    pgtables = mem.pgtables
    np_ptes, value = pgtables.np_ptes, pgtables.swp_pte(entry)
    for first, base in pgtables.tables(mm.pgd, 0, TASK_SIZE):
        for k in np.flatnonzero(np_ptes[base : base + pgtables.PTRS] == value).tolist():
            address = first + (k << 12)
            vma = mm.find_vma(address)
            if vma is None or vma.vm_start > address:
                raise InvariantViolation(
                    f"mm {mm.addr:#x} has swap entry {entry:#x} at {address:#x}, where it has no area"
                )
            _unuse_pte(mem, mm, vma, address, base + k, value, pfn, entry)


def _unuse_pte(mem: Memory, mm: Mm, vma: VmArea, address: int, i: int, value: int, pfn: int, entry: int) -> None:
    """The PTE maps the page, old and write-protected; where the scheme cannot record it there, a copy (as a fault
    would, since rmap 11)."""
    scheme, frames, swap, ptes = mem.scheme, mem.frames, mem.swap, mem.pgtables.ptes
    token = scheme.reserve("anon_fault", vma)
    try:
        if ptes[i] != value:
            return  # the reservation ran out of memory, and this mm was the victim
        exclusive = swap.swap_count(entry) == 2 and frames.mapcount[pfn] == 0  # the swap cache and this PTE
        if mem.rmap.add_anon(pfn, vma, address, i, exclusive, token):
            mem.faults.swapin_copy(mm, vma, address, i, pfn, entry)
            return
        frames.count[pfn] += 1
        swap.swap_free(entry)
        if vma.vm_flags & VM_EXEC:
            frames.flags[pfn] |= PG_CODE
        ptes[i] = pfn << 12 | vma.vm_page_prot & ~(W | A)
    finally:
        scheme.release(token)
