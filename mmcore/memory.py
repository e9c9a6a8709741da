"""The memory of one machine: boots the rooms of mmcore, lends each what it needs, and keeps the low-memory account.

physical frames at boot (low to high)
  0            never used (2.6 keeps frame 0)
  640K-1M      the BIOS hole
  1M-          kernel image
  16M- or next mem_map: one struct page per frame, of the base kernel's size plus what the scheme adds
  the rest     free: DMA below 16M, Normal up to the border of low memory (896M), HighMem above
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from mmcore.areas.overcommit import Overcommit
from mmcore.clock import VirtualClock
from mmcore.disk import Disk
from mmcore.errors import ConfigError, PluginError
from mmcore.files.index.list import FILE_INDEXES
from mmcore.files.shmem import ShmemMount
from mmcore.paging.fault import Faults
from mmcore.paging.pagewait import AwaitedPages
from mmcore.physical.frames import BOOT, FREE, OWNER_NAMES, PG_CODE, PG_RESERVED, SLAB, Frames
from mmcore.physical.pgtable import PaeTables, PageTables, TwoLevelTables
from mmcore.physical.ram import PAGE_SHIFT, PAGE_SIZE, Ram
from mmcore.physical.slab import Slab
from mmcore.physical.zone import Zone
from mmcore.physical.zones import DMA_END, LOWMEM_BYTES, AllocatorHelp, PageAllocator
from mmcore.reclaim.oom import OomKiller
from mmcore.reclaim.pagevec import end_of_writes
from mmcore.reclaim.scan24 import SwapOut
from mmcore.reclaim.vmscan import Vmscan
from mmcore.rmap.core import Rmap
from mmcore.rmap.scheme import MachineFacts, RmapScheme, ScanScheme, SchemeEnv, Setup, WalkScheme
from mmcore.stats import Meters, VmStat
from mmcore.swap.cache import Swap

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.files.filemap import AddressSpace
    from mmcore.outside import Caller, MappedFile, Victim

KERNEL_IMAGE = 3 << 20  # bytes: text, data and bss of a 2.6.7 for a desktop
_BIOS_HOLE = (160, 256)  # frames: 640K-1M
# Sizes of the base kernel's structures without any reverse mapping (2.6.7 less mapcount, prio_tree and anon_vma
# fields).
STRUCT_PAGE = 28
VM_AREA_STRUCT = 64
MM_STRUCT = 448
MIN_MEMORY = 5 << 20
MIN_LOWMEM = 32 << 20  # beyond the DMA zone
MAX_MEMORY = {"pae": 64 << 30, "2level": 4 << 30}  # what the entries of page tables can name


@dataclass
class MemoryConfig:
    """What the machine is made of. Sizes in bytes."""

    memory_bytes: int = 64 << 20
    swap_bytes: int = 128 << 20
    paging: str = "pae"
    lowmem_bytes: int = LOWMEM_BYTES  # where low memory ends
    highpte: bool = False  # tables of PTEs prefer high memory
    overcommit: int = 0
    overcommit_ratio: int = 50
    swappiness: int = 60
    page_cluster: int = -1  # -1: 2 below 16 MB of RAM, else 3
    layout: str = "topdown"  # of address spaces; or "legacy": see placement.py
    smp: bool = False
    cache_line: int = 32
    accounting: str = "isolated"
    seed: int | None = None
    dirty_tracking: bool = False  # 2.6.19's: see filespace.py
    scheme_options: dict[str, Any] = field(default_factory=dict)
    swap_areas: tuple[tuple[int, int | None], ...] = ()  # bytes and priority of each; (): one area of `swap_bytes`


def configure(scheme: type[RmapScheme], machine: MachineFacts, options: dict[str, Any]) -> Setup:
    """The scheme's answer to what is asked before boot. Raises PluginError for one that cannot be."""
    name = scheme.card.name
    setup = scheme.configure(machine, options)
    if not isinstance(setup, Setup):
        raise PluginError(f"scheme {name!r}: configure({options}) answers {setup!r}: it must be a Setup")
    for field_name in ("page", "vma", "mm", "address_space"):
        size = getattr(setup, field_name)
        if not isinstance(size, int) or size < 0:
            raise PluginError(
                f"scheme {name!r}: configure({machine}): {field_name} = {size!r} must be a number of bytes, 0 or more"
            )
    if setup.file_index not in FILE_INDEXES:
        raise PluginError(
            f"scheme {name!r}: configure({options}): file_index = {setup.file_index!r} must be one of "
            f"{', '.join(FILE_INDEXES)}"
        )
    served = setup.scheme
    if served is not None and not (isinstance(served, type) and issubclass(served, (WalkScheme, ScanScheme))):
        raise PluginError(
            f"scheme {name!r}: configure({options}): scheme = {served!r} must be a class that derives from "
            f"WalkScheme or "
            "ScanScheme"
        )
    return setup


def require_base(scheme: RmapScheme, kind: type[RmapScheme], env: SchemeEnv) -> None:
    """Raises PluginError when the constructor of `kind`, which has made `scheme`, leaves out the base class's."""
    if getattr(scheme, "env", None) is not env or not hasattr(scheme, "options"):
        code = next(vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)).__code__
        raise PluginError(
            f"scheme {kind.card.name!r}: {kind.__name__}.__init__ ({os.path.basename(code.co_filename)}, line "
            f"{code.co_firstlineno}) does not "
            "set up its base class: call super().__init__(env, options) first in it"
        )


class CurrentTask:
    """Who the core works for while no task of a kernel's is there: root, without limits."""

    def __init__(self) -> None:
        self.euid = 0
        self.rlimits = None
        self.mm: Mm | None = None
        self.pid = 0
        self.comm = "boot"
        self.memdie = False
        self.min_flt = 0
        self.maj_flt = 0
        self.fault_major = False


class Holdings(TypedDict):
    """Who holds low memory at a moment."""

    owned: list[int]  # frames, by owner
    slab: dict[str, tuple[int, int, int]]  # cache -> its frames, objects in use, slabs
    vmalloc: list[tuple[str, int]]  # (name, frames) of each area


class LowmemReport(TypedDict):
    """The low-memory account, in bytes. A row of an owner has `bytes`, most have `peak_bytes`; a slab cache's also
    `used_bytes`, `object_size` and, in numbers, `objects`, `peak_objects`, `slabs`."""

    total: int  # what the boot reservation left
    present: int
    free: int  # in the buddy lists
    min_free: int  # ... when it was least
    owners: dict[str, dict[str, int]]  # now
    at_peak: dict[str, dict[str, int]]  # when least was free


class HighmemReport(TypedDict):
    """The account of high memory, in bytes. A row of an owner has `bytes` and `peak_bytes`."""

    total: int
    free: int  # in the buddy lists
    min_free: int  # ... when it was least
    owners: dict[str, dict[str, int]]


class _Help(AllocatorHelp):
    """Reclaim, the OOM killer and the account, for the allocator."""

    def __init__(self, mem: Memory) -> None:
        self.mem = mem

    def wakeup_kswapd(self) -> None:
        self.mem.reclaim.wakeup_kswapd()

    def try_to_free_pages(self, gfp: int, order: int) -> int:
        return self.mem.reclaim.try_to_free_pages(gfp, order)

    def last_resort(self) -> bool:
        return self.mem.awaited.revoke()

    def current_memdie(self) -> bool:
        return bool(self.mem.current.memdie)

    def gave_up(self, gfp: int, order: int) -> None:
        self.mem.oom.report(gfp, order)

    def new_low(self) -> None:
        self.mem.note_low()

    def code_reused(self) -> None:
        self.mem.flush_code = True


def _ram_bytes(config: MemoryConfig) -> int:
    """Bytes of RAM, whole pages. Raises ConfigError for what cannot be a machine."""
    if config.memory_bytes < MIN_MEMORY:
        raise ConfigError(
            f"memory of {config.memory_bytes >> 10} KB is too small to boot: give at least {MIN_MEMORY >> 20}M"
        )
    most = MAX_MEMORY[config.paging]
    if config.memory_bytes > most:
        raise ConfigError(
            f"memory of {config.memory_bytes >> 30} GB is more than {config.paging} page tables can name: give at "
            f"most {most >> 30}G"
        )
    if config.lowmem_bytes < MIN_LOWMEM:
        raise ConfigError(f"lowmem of {config.lowmem_bytes >> 20} MB is too little: give at least {MIN_LOWMEM >> 20}M")
    return config.memory_bytes >> PAGE_SHIFT << PAGE_SHIFT


class Memory:
    """One machine's memory management. See the module's text for where what lies at boot.

    `tasks()`: whom the OOM killer may choose, see mmcore.reclaim.oom. `shmem_zero_setup(size, reserve)`: the file
    behind shared anonymous memory, where the kernel has files of its own; else a ShmemMount makes it.
    """

    def __init__(
        self,
        config: MemoryConfig,
        scheme_class: type[RmapScheme],
        tasks: Callable[[], Iterable[Victim]] = tuple,
        shmem_zero_setup: Callable[[int, bool], MappedFile] | None = None,
    ) -> None:
        self.config = config
        self.layout_rng = random.Random(config.seed) if config.seed is not None else None
        size = _ram_bytes(config)
        self.machine = MachineFacts(config.paging, config.smp, config.cache_line, config.accounting, config.highpte)
        self.setup = configure(scheme_class, self.machine, config.scheme_options)
        scheme_class = self.setup.scheme or scheme_class
        self.clock = VirtualClock()
        self.vmstat = VmStat()
        self.meters = Meters()
        self.ram = Ram(size)
        self.frames = Frames(self.ram.nr_frames)
        self.pages = PageAllocator(self.frames, self.clock, config.lowmem_bytes)
        self._boot(size)
        self.slab = Slab(self.pages)
        tables: type[PageTables] = PaeTables if config.paging == "pae" else TwoLevelTables
        self.pgtables = tables(self.ram, self.pages, self.slab, self.vmstat, config.highpte)
        self.zero_pfn = self._boot_frame
        self.mms: dict[int, Mm] = {}
        self.mappings: dict[int, AddressSpace] = {}
        self.current: Caller = CurrentTask()
        self.tasks = tasks
        self.flush_code = False
        self.vma_cache = self.slab.cache("vm_area_struct", VM_AREA_STRUCT + self.setup.vma)
        self.mm_cache = self.slab.cache("mm_struct", MM_STRUCT + self.setup.mm, hwcache=config.cache_line)
        env = SchemeEnv(
            self.frames,
            self.ram,
            self.slab,
            self.meters,
            self.pgtables,
            self.mms,
            self.machine,
            self.setup,
            self._try_to_swap_out if issubclass(scheme_class, ScanScheme) else None,
        )
        self.scheme = scheme_class(env, config.scheme_options)
        require_base(self.scheme, scheme_class, env)
        self.rmap = Rmap(self, self.scheme)
        self.overcommit = Overcommit(self)
        self.disk = Disk(self.clock, self.frames, self.vmstat, partial(end_of_writes, self))
        self.swap = Swap(self)
        self.awaited = AwaitedPages(self)
        self.reclaim = Vmscan(self) if self.rmap.exact else SwapOut(self)
        self.oom = OomKiller(self)
        self.shmem_zero_setup: Callable[[int, bool], MappedFile] = shmem_zero_setup or ShmemMount(self)
        self.faults = Faults(self)
        self.at_peak = self._owners()
        # Told of each new low, as it is about to end
        self.at_low: Callable[[], None] | None = None
        self.pages.attach(_Help(self))

    # --- boot

    def _boot(self, size: int) -> None:
        nr = size >> PAGE_SHIFT
        kernel_end = 256 + (KERNEL_IMAGE >> PAGE_SHIFT)
        self.struct_page_bytes = STRUCT_PAGE + self.setup.page
        mem_map = (nr * self.struct_page_bytes + PAGE_SIZE - 1) >> PAGE_SHIFT
        self.boot_owners = {
            "kernel_image": (KERNEL_IMAGE >> PAGE_SHIFT) + 1 + _BIOS_HOLE[1] - _BIOS_HOLE[0],
            "mem_map": mem_map,
        }
        # bootmem aims above the DMA zone and falls back below it
        low = self.pages.lowmem_end
        start = DMA_END if low - DMA_END >= mem_map + 256 else kernel_end
        if start + mem_map + 128 > low:
            self._refuse_to_boot(mem_map, low)
        self._boot_frame = kernel_end - 1  # the last frame of the image: empty_zero_page
        free = [(1, _BIOS_HOLE[0]), (kernel_end, start), (start + mem_map, low)]
        for lo, hi in free:
            if lo < hi:
                self.pages.free_boot_range(lo, hi)
        self.pages.free_highmem()
        self.pages.setup_watermarks()
        self.total_pages = nr - self.pages.owned[BOOT]
        self.low_pages = low - self.pages.owned[BOOT]

    def _refuse_to_boot(self, mem_map: int, low: int) -> None:
        """ConfigError: the map of all memory does not fit beside the kernel into low memory. Sizes in frames."""
        size, need = self.frames.nr >> 8, mem_map >> 8
        if low == self.frames.nr:
            raise ConfigError(f"memory of {size} MB cannot hold the kernel and its mem_map: give more memory")
        raise ConfigError(
            f"memory of {size} MB does not boot: its mem_map takes {need} of {low >> 8} MB of low memory "
            f"({self.struct_page_bytes} bytes a frame): give less memory, or more lowmem"
        )

    def boot_reserve(self) -> int:
        """A frame of the kernel image lent to the machine layer (descriptor table, trampolines): its PFN."""
        self._boot_frame -= 1
        return self._boot_frame

    # --- frames

    def is_reserved(self, pfn: int) -> bool:
        """Frames outside reverse mapping: PageReserved (the zero page among them) or no frame at all."""
        return pfn >= self.frames.nr or bool(self.frames.flags[pfn] & PG_RESERVED)

    def code_changed(self, pfn: int) -> None:
        """A frame that may hold translated code is changed, by somebody else than the CPU."""
        if self.frames.flags[pfn] & PG_CODE:
            self.flush_code = True

    def _try_to_swap_out(self, vma: VmArea, start: int, end: int, zone: Zone, goal: int) -> tuple[int, int]:
        """What a ScanScheme is lent: it exists before reclaim does."""
        assert isinstance(self.reclaim, SwapOut)
        return self.reclaim.try_to_swap_out(vma, start, end, zone, goal)

    # --- the account

    def sync_vmstat(self) -> VmStat:
        """vmstat with the counters that the allocator keeps itself."""
        v = self.vmstat
        v.pgfree = self.pages.pgfree
        v.pgalloc_dma = self.pages.zones[0].pgalloc
        v.pgalloc_normal = self.pages.zones[1].pgalloc
        v.pgalloc_high = self.pages.zones[2].pgalloc
        v.nr_slab = self.pages.owned[SLAB]
        return v

    def _owners(self) -> Holdings:
        """Who holds low memory now, in frames and objects; the sum of all frames is low memory."""
        owned = self.pages.owned
        slabs = {c.name: (c.frames, c.objects, c.slabs) for c in self.slab.caches.values()}
        return {"owned": list(owned), "slab": slabs, "vmalloc": self.slab.vmalloc_areas()}

    def owners_now(self) -> dict[str, dict[str, int]]:
        """Who holds low memory, as in the report's rows."""
        return self._owner_table(self._owners())

    def note_low(self) -> None:
        """Free memory is at its least so far: who holds it now stands in the report as the peak."""
        self.at_peak = self._owners()
        if self.at_low is not None:
            self.at_low()

    def lowmem_report(self) -> LowmemReport:
        self.pages.settle_low()
        now = self._owners()
        return {
            "total": self.low_pages << PAGE_SHIFT,
            "present": self.pages.lowmem_end << PAGE_SHIFT,
            "free": now["owned"][FREE] << PAGE_SHIFT,
            "min_free": self.pages.min_free << PAGE_SHIFT,
            "owners": self._owner_table(now),
            "at_peak": self._owner_table(self.at_peak),
        }

    def highmem_report(self) -> HighmemReport:
        """The account of high memory, now."""
        account, present = self.pages.high, self.pages.zones[2].present_pages
        return {
            "total": present << PAGE_SHIFT,
            "free": account.owned[FREE] << PAGE_SHIFT,
            "min_free": account.min_free << PAGE_SHIFT,
            "owners": {
                OWNER_NAMES[owner]: {
                    "bytes": frames << PAGE_SHIFT,
                    "peak_bytes": account.peak_owned[owner] << PAGE_SHIFT,
                }
                for owner, frames in enumerate(account.owned)
                if owner != FREE and account.peak_owned[owner]
            },
        }

    def _owner_table(self, snapshot: Holdings) -> dict[str, dict[str, int]]:
        table: dict[str, dict[str, int]] = {}
        for name, frames in self.boot_owners.items():
            table[name] = {"bytes": frames << PAGE_SHIFT, "peak_bytes": frames << PAGE_SHIFT}
        rest = snapshot["owned"][BOOT] - sum(self.boot_owners.values())
        if rest:
            table["boot_other"] = {"bytes": rest << PAGE_SHIFT, "peak_bytes": rest << PAGE_SHIFT}
        for owner, frames in enumerate(snapshot["owned"]):
            if owner in (BOOT, FREE, SLAB):
                continue
            if owner == OWNER_NAMES.index("vmalloc"):
                for name, pages in snapshot["vmalloc"]:
                    table[f"vmalloc:{name}"] = {"bytes": pages << PAGE_SHIFT}
                continue
            table[OWNER_NAMES[owner]] = {
                "bytes": frames << PAGE_SHIFT,
                "peak_bytes": self.pages.peak_owned[owner] << PAGE_SHIFT,
            }
        for name, (frames, objects, slabs) in snapshot["slab"].items():
            cache = self.slab.caches[name]
            table[f"slab:{name}"] = {
                "bytes": frames << PAGE_SHIFT,
                "used_bytes": objects * cache.objsize,
                "object_size": cache.objsize,
                "objects": objects,
                "peak_objects": cache.peak_objects,
                "slabs": slabs,
                "peak_bytes": cache.peak_slabs << cache.order << PAGE_SHIFT,
            }
        return table
