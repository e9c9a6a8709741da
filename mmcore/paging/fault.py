"""Page faults: which area, what kind, and what to do about it.

 no area, or not allowed: SIGSEGV
 PTE empty     anonymous area: read -> zero page, write -> fresh page
               file area: page cache (write to private: early copy)
 PTE FILE      nonlinear file page
 PTE swap      swap cache, else read it in: raises MustWait, the access restarts when the page is there
 PTE present   write to a write-protected page: reuse if alone, else copy

A fault counts once, when it is done; it is major if it had to wait. Linux: mm/memory.c, arch/i386/mm/fault.c, 2.6.7;
the stack may grow at any distance below the stack pointer, as in 4.20 and later.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmcore.areas.stack import expand_stack
from mmcore.areas.vma import VM_EXEC, VM_GROWSDOWN, VM_LOCKONFAULT, VM_READ, VM_SHARED, VM_WRITE
from mmcore.errors import BeyondEof, InvariantViolation, MustWait, OutOfMemory, SysError
from mmcore.physical.frames import PG_ANON, PG_CODE, PG_LOCKED, PG_RESERVED, PG_SWAPCACHE, USER
from mmcore.physical.gfp import GFP_HIGHUSER
from mmcore.physical.pgtable import FILE, PRESENT, TASK_SIZE, A, D, P, W

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory
    from mmcore.outside import Caller

COPIED, DONE, SIGSEGV_MAPERR, SIGSEGV_ACCERR, SIGBUS, OOM = range(-1, 5)
"""What a fault answers; up to DONE the access may be made. COPIED: another frame is under the same address, data only,
and that is all that flush_pending is set for; a store of the CPU's own that restarts at once pays it (see the loop)."""
_ZERO = bytes(4096)
PF_PROT, PF_WRITE, PF_USER, PF_INSTR = 1, 2, 4, 16  # of the CPU's error code


class Faults:
    """The fault path of one machine, and the kernel's own accesses to user memory."""

    def __init__(self, mem: Memory) -> None:
        self.mem = mem
        self.frames = mem.frames
        self.pgtables = mem.pgtables
        self.ptes = mem.pgtables.ptes
        self.pte_index = mem.pgtables.pte_index
        self.pte_alloc = mem.pgtables.pte_alloc
        self.pfn_mask = mem.pgtables.PFN_MASK
        self.u8 = mem.ram.u8
        self.alloc_page, self.put_page = mem.pages.alloc_page, mem.pages.put_page
        self.rmap = mem.rmap
        self.scheme = mem.scheme
        self.reserve, self.release, self.scheme_add_anon = mem.scheme.reserve, mem.scheme.release, mem.scheme.add_anon
        self.flags, self.mapcount, self.stamp = mem.frames.flags, mem.frames.mapcount, mem.frames.stamp
        self.swap = mem.swap
        self.awaited = mem.awaited
        self.vmstat = mem.vmstat
        self.meters = mem.meters
        self.lru_cache_add_active = mem.reclaim.lru_cache_add_active
        self.zero_pte = mem.zero_pfn << 12

    # --- from the CPU

    def do_page_fault(self, mm: Mm, address: int, error_code: int) -> int:
        """A fault of user code: COPIED, DONE, SIGSEGV_MAPERR, SIGSEGV_ACCERR, SIGBUS or OOM. Raises MustWait."""
        vma = mm.mmap_cache
        if vma is None or address >= vma.vm_end or address < vma.vm_start:
            try:
                vma = self._find_area(mm, address)
            except OutOfMemory:
                return OOM
            if vma is None:
                return SIGSEGV_MAPERR
        flags = vma.vm_flags
        write = error_code & PF_WRITE
        if write:
            if not flags & VM_WRITE:
                return SIGSEGV_ACCERR
        elif error_code & PF_INSTR:
            if not flags & VM_EXEC:
                return SIGSEGV_ACCERR
        elif not flags & (VM_READ | VM_EXEC | VM_WRITE):
            return SIGSEGV_ACCERR
        answer = self.handle_mm_fault(mm, vma, address, write)
        if answer <= DONE:
            current = self.mem.current
            self.vmstat.pgfault += 1
            if current.fault_major:
                self._count_major(current)
            else:
                current.min_flt += 1
        else:
            self.mem.current.fault_major = False  # it ends here: the next fault starts afresh
        return answer

    def _count_major(self, current: Caller) -> None:
        current.fault_major = False
        current.maj_flt += 1
        self.vmstat.pgmajfault += 1

    def _find_area(self, mm: Mm, address: int) -> VmArea | None:
        """The area of a user address; a stack is grown to it. Raises OutOfMemory."""
        vma = mm.find_vma(address) if address < TASK_SIZE else None
        if vma is None or vma.vm_start <= address:
            return vma
        if not vma.vm_flags & VM_GROWSDOWN:
            return None
        try:
            expand_stack(self.mem, vma, address)
        except OutOfMemory:
            raise
        except SysError:
            return None
        return vma

    def handle_mm_fault(self, mm: Mm, vma: VmArea, address: int, write: int) -> int:
        """Makes the page at `address` present (and writable for `write`). COPIED, DONE, SIGBUS or OOM. Raises
        MustWait."""
        try:
            i = self.pte_index(mm.pgd, address)
            if i < 0:
                i = self.pte_alloc(mm, address)
            pte = self.ptes[i]
            if not pte:
                if vma.mapping is None:
                    return self._do_anonymous_page(mm, vma, address, i, write)
                return self._do_no_page(mm, vma, address, i, (address - vma.vm_start >> 12) + vma.vm_pgoff, write)
            if not pte & PRESENT:
                if pte & FILE:
                    return self._do_no_page(mm, vma, address, i, self.pgtables.pte_to_pgoff(pte), write)
                return self._do_swap_page(mm, vma, address, i, pte, write)
            if write and not pte & W:
                return self._do_wp_page(mm, vma, address, i, pte)
            self.ptes[i] = pte | A | (D if write else 0)  # somebody was faster, or the TLB was stale
            mm.flush_pending = True
            return DONE
        except OutOfMemory:
            return OOM

    # --- the kinds

    def _do_anonymous_page(self, mm: Mm, vma: VmArea, address: int, i: int, write: int) -> int:
        """HOT. Nothing of the scheme's is known here, so its three hooks are called; everything else is in line."""
        flags = vma.vm_flags
        if not write:
            self.ptes[i] = self.zero_pte | vma.vm_page_prot & ~W
            self.meters.zero_page += 1
            return DONE
        token = self.reserve("anon_fault", vma)
        try:
            pfn = self.alloc_page(GFP_HIGHUSER, USER)
        except OutOfMemory:
            self.release(token)
            raise
        base = pfn << 12
        if self.stamp[pfn]:  # a frame that was never freed holds what RAM holds at power-on
            self.u8[base : base + 4096] = _ZERO
        self.flags[pfn] = PG_ANON | PG_CODE if flags & VM_EXEC else PG_ANON
        self.scheme_add_anon(pfn, vma, address, i, True, token)
        self.mapcount[pfn] = 1
        self.vmstat.nr_mapped += 1
        if token is not None:
            self.release(token)
        self.lru_cache_add_active(pfn)
        pte = base | vma.vm_page_prot | D
        self.ptes[i] = pte | W if flags & VM_WRITE else pte
        mm.anon_rss += 1
        mm.rss = rss = mm.rss + 1
        if rss > mm.hiwater_rss:
            mm.hiwater_rss = rss
        if rss == 1:
            self.rmap.populations += 1
        return DONE

    def _do_no_page(self, mm: Mm, vma: VmArea, address: int, i: int, index: int, write: int) -> int:
        """A file page: from the page cache. The caller's PTE is empty or names a nonlinear offset."""
        mapping = vma.mapping
        assert mapping is not None
        shared = vma.vm_flags & VM_SHARED
        scheme, frames = self.scheme, self.frames
        early_copy = write and not shared
        token = scheme.reserve("anon_fault" if early_copy else "file_fault", vma)
        try:
            try:
                pfn = mapping.getpage(index, write=bool(write and shared))
            except BeyondEof:
                return SIGBUS
            except SysError as error:
                if isinstance(error, OutOfMemory):
                    raise
                return OOM if error.errno == errno.ENOMEM else SIGBUS
            if early_copy:
                try:
                    new = self.alloc_page(GFP_HIGHUSER, USER)
                finally:
                    self.put_page(pfn)
                # getpage's frame cannot have gone: nothing ran since but the allocator, and it had our reference.
                self.mem.ram.copy(new, pfn)
                self._install_anon(mm, vma, address, i, new, token)
                self.meters.cow += 1
            else:
                if vma.vm_flags & VM_EXEC:
                    frames.flags[pfn] |= PG_CODE
                self.rmap.add_file(pfn, vma, address, i, token)
                pte = pfn << 12 | vma.vm_page_prot
                if write:
                    pte |= D | W
                    if mapping.tracks_dirty:
                        mapping.set_page_dirty(pfn)
                elif not shared:
                    pte &= ~W
                self.ptes[i] = pte
            return DONE
        finally:
            scheme.release(token)

    def _install_anon(self, mm: Mm, vma: VmArea, address: int, i: int, pfn: int, token: object) -> None:
        """A fresh, exclusive anonymous page goes into a PTE, dirty and as writable as the area."""
        if vma.vm_flags & VM_EXEC:
            self.frames.flags[pfn] |= PG_CODE
        self.rmap.add_anon(pfn, vma, address, i, True, token)
        self.lru_cache_add_active(pfn)
        self.ptes[i] = pfn << 12 | vma.vm_page_prot | D | (W if vma.vm_flags & VM_WRITE else 0)

    def _do_wp_page(self, mm: Mm, vma: VmArea, address: int, i: int, pte: int) -> int:
        """A write to a page that is there. HOT."""
        pfn = pte >> 12 & self.pfn_mask
        flags = self.flags[pfn]
        if vma.vm_flags & VM_SHARED:
            # A shared page that was write-protected under an area that may write again, or that nobody has written to
            # since it was last written back.
            if vma.mapping is not None and vma.mapping.tracks_dirty:
                vma.mapping.set_page_dirty(pfn)
            self.ptes[i] = pte | A | D | (W if vma.vm_flags & VM_WRITE else 0)
            mm.flush_pending = True
            return DONE
        if flags & PG_ANON and not flags & PG_LOCKED:
            if self.frames.count[pfn] == 1 or (flags & PG_SWAPCACHE and self.swap.can_share_swap_page(pfn)):
                self.ptes[i] = pte | A | D | (W if vma.vm_flags & VM_WRITE else 0)
                self.meters.reuse += 1
                if self.rmap.has_reused:
                    self.scheme.reused(pfn, vma, address)
                return DONE
        if flags & PG_RESERVED:
            return self._copy_page(mm, vma, address, i, pte, pfn)
        count = self.frames.count
        count[pfn] += 1
        try:
            return self._copy_page(mm, vma, address, i, pte, pfn)
        finally:
            self.put_page(pfn)

    def _copy_page(self, mm: Mm, vma: VmArea, address: int, i: int, pte: int, pfn: int) -> int:
        """A page of its own for a PTE that shares `pfn`, or maps the zero page; the caller holds a reference to what
        is shared. HOT, the new page in line like _do_anonymous_page."""
        ram, mapcount, flags = self.u8, self.mapcount, self.flags[pfn]
        token = self.reserve("anon_fault", vma)
        try:
            new = self.alloc_page(GFP_HIGHUSER, USER)
        except OutOfMemory:
            self.release(token)
            raise
        d, s = new << 12, pfn << 12
        ram[d : d + 4096] = _ZERO if flags & PG_RESERVED else ram[s : s + 4096]
        if self.ptes[i] != pte:
            # The allocation reclaimed, and reclaim took this very page: the access restarts.
            self.put_page(new)
            self.release(token)
            return DONE
        if flags & PG_RESERVED:
            mm.anon_rss += 1
            mm.rss += 1
            if mm.rss > mm.hiwater_rss:
                mm.hiwater_rss = mm.rss
            if mm.rss == 1:
                self.rmap.populations += 1
        else:
            if not flags & PG_ANON:
                self.rmap.copied_file(vma)
            if mapcount[pfn] > 1 and not self.rmap.has_remove:
                mapcount[pfn] -= 1
            else:
                self.rmap.forget(vma, pfn, i)
        executable = vma.vm_flags & VM_EXEC
        self.flags[new] = PG_ANON | PG_CODE if executable else PG_ANON
        self.scheme_add_anon(new, vma, address, i, True, token)
        mapcount[new] = 1
        self.vmstat.nr_mapped += 1
        self.lru_cache_add_active(new)
        self.ptes[i] = d | vma.vm_page_prot | D | (W if vma.vm_flags & VM_WRITE else 0)
        answer = DONE if mm.flush_pending or executable else COPIED
        mm.flush_pending = True
        if token is not None:
            self.release(token)
        self.meters.cow += 1
        if not flags & PG_RESERVED:  # the PTE's reference goes
            if self.flags[pfn] & PG_SWAPCACHE:
                self.swap.free_page_and_swap_cache(pfn)
            else:
                self.frames.count[pfn] -= 1
        return answer

    def _do_swap_page(self, mm: Mm, vma: VmArea, address: int, i: int, pte: int, write: int) -> int:
        swap, frames = self.swap, self.frames
        entry = self.pgtables.pte_to_swp(pte)
        pfn = swap.lookup_swap_cache(entry)
        if pfn < 0:
            self.awaited.take_turn()
            self.mem.current.fault_major = True
            swap.swapin_readahead(entry)
            pfn = swap.lookup_swap_cache(entry)
            if pfn < 0:
                raise OutOfMemory("no frame to read a swapped page into")
        try:
            if frames.flags[pfn] & PG_LOCKED:
                raise self.awaited.must_wait(pfn)
            if self.awaited.held:
                self.awaited.let_go_page(pfn)
            scheme = self.scheme
            token = scheme.reserve("anon_fault", vma)
            try:
                if self.ptes[i] != pte:
                    return DONE
                self.mem.reclaim.mark_page_accessed(pfn)
                exclusive = swap.swap_count(entry) == 2 and frames.mapcount[pfn] == 0  # the swap cache and this PTE
                if self.rmap.add_anon(pfn, vma, address, i, exclusive, token):
                    return self.swapin_copy(mm, vma, address, i, pfn, entry)
                frames.count[pfn] += 1
                swap.swap_free(entry)
                if swap.vm_swap_full():
                    swap.remove_exclusive_swap_page(pfn, 2)  # ours and the PTE's
                new = pfn << 12 | vma.vm_page_prot & ~W
                if vma.vm_flags & VM_EXEC:
                    frames.flags[pfn] |= PG_CODE
                if write and self._alone(pfn):
                    new |= D | (W if vma.vm_flags & VM_WRITE else 0)
                    write = False
                self.ptes[i] = new
            finally:
                scheme.release(token)
        finally:
            self.put_page(pfn)
        if write:
            return self._do_wp_page(mm, vma, address, i, self.ptes[i])
        return DONE

    def _alone(self, pfn: int) -> bool:
        """May the faulting task write to this swapped-in page in place? The caller holds one reference beside the
        PTE's."""
        self.frames.count[pfn] -= 1
        try:
            return self.frames.count[pfn] == 1 or self.swap.can_share_swap_page(pfn)
        finally:
            self.frames.count[pfn] += 1

    def swapin_copy(self, mm: Mm, vma: VmArea, address: int, i: int, pfn: int, entry: int) -> int:
        """The scheme cannot record this page at this address (anonmm's clash): this mm gets a copy of its own."""
        scheme = self.scheme
        token = scheme.reserve("anon_fault", vma)
        try:
            pte = self.ptes[i]
            new = self.alloc_page(GFP_HIGHUSER, USER)
            if self.ptes[i] != pte:
                self.put_page(new)
                return DONE
            self.mem.ram.copy(new, pfn)
            self._install_anon(mm, vma, address, i, new, token)
            self.meters.cow += 1
            self.swap.swap_free(entry)
            return DONE
        finally:
            scheme.release(token)

    # --- the kernel's own accesses

    def fault_in(self, mm: Mm, address: int, write: bool) -> int:
        """The frame behind a user address, present and (for `write`) writable, A and D set as the CPU would.

        Raises SysError(EFAULT) where the guest would get a signal, MustWait before anything changed; for a call that
        keeps many pages already it waits here.
        """
        need = P | W if write else P
        ptes, mask = self.ptes, self.pfn_mask
        for _ in range(1000):
            if address >= TASK_SIZE or address < 0:
                break
            i = self.pte_index(mm.pgd, address)
            if i >= 0:
                pte = ptes[i]
                if pte & need == need:
                    ptes[i] = pte | (A | D if write else A)
                    pfn = pte >> 12 & mask
                    if self.awaited.held:
                        self.awaited.keep_if_waited(pfn)
                    return pfn
            try:
                answer = self.do_page_fault(mm, address, PF_WRITE if write else 0)
            except MustWait as wait:
                if not self.awaited.keeps_many():
                    raise
                self.mem.reclaim.wait_sync(wait.queue)
                continue
            if answer <= DONE:
                continue
            if answer == OOM:
                raise OutOfMemory("a page for the kernel's access to user memory")
            break
        else:
            raise InvariantViolation(f"a fault at {address:#x} is answered but never ends")
        raise SysError(errno.EFAULT)

    def get_user_page(self, mm: Mm, address: int, write: bool) -> int:
        """Pins the frame behind a user address (count + 1): reclaim leaves it mapped. Undo with pages.put_page."""
        pfn = self.fault_in(mm, address, write)
        if not self.mem.is_reserved(pfn):
            self.frames.count[pfn] += 1
        return pfn

    def make_pages_present(self, mm: Mm, start: int, end: int, go_on: bool = True) -> int:
        """mlock and MAP_POPULATE: faults the range in as its areas allow, breaking copy on write where they may write;
        areas locked on fault are left alone.

        Returns 0, or the errno of the first page that cannot be had: EFAULT (no access, beyond the end of the file),
        ENOMEM. `go_on`: other areas are tried all the same. Linux: __mm_populate, populate_vma_page_range, 4.x and
        later.
        """
        error = 0
        address = start
        while address < end:
            vma = mm.find_vma(address)
            if vma is None or vma.vm_start >= end:
                break
            address = max(address, vma.vm_start)
            stop = min(end, vma.vm_end)
            failed = self._populate(mm, vma, address, stop)
            if failed:
                error = error or failed
                if not go_on:
                    break
            address = stop
        return error

    def _populate(self, mm: Mm, vma: VmArea, address: int, stop: int) -> int:
        flags = vma.vm_flags
        if flags & VM_LOCKONFAULT:
            return 0  # its pages come in by faults only, whoever asks
        if not flags & (VM_READ | VM_WRITE | VM_EXEC):
            return errno.EFAULT
        write = flags & (VM_WRITE | VM_SHARED) == VM_WRITE  # a shared page is not dirtied for nothing
        while address < stop:
            i = self.pte_index(mm.pgd, address)
            pte = self.ptes[i] if i >= 0 else 0
            if not pte & P or (write and not pte & W):
                answer = self._on_the_spot(mm, vma, address, write)
                if answer is None:
                    continue
                current = self.mem.current
                self.awaited.let_go(current)
                if answer > DONE:
                    current.fault_major = False
                    return errno.ENOMEM if answer == OOM else errno.EFAULT
                self.vmstat.pgfault += 1
                if current.fault_major:
                    self._count_major(current)
                else:
                    current.min_flt += 1
            address += 4096
        return 0

    def _on_the_spot(self, mm: Mm, vma: VmArea, address: int, write: bool) -> int | None:
        """handle_mm_fault for a task that cannot give way. None: it had to wait, and has."""
        self.awaited.on_the_spot = True
        try:
            answer = self.handle_mm_fault(mm, vma, address, write)
        except MustWait as wait:
            self.awaited.on_the_spot = False
            self.mem.reclaim.wait_sync(wait.queue)
            return None
        self.awaited.on_the_spot = False
        return answer
