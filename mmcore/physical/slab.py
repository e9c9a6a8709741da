"""Caches of sized objects on frames of low memory.

Every kernel object has an address here: `PAGE_OFFSET + physical`. A cache packs objects into slabs as 2.6 did: a slab
of `1 << order` frames holds a 24-byte header and a 2-byte bufctl per object beside the objects (big objects keep both
elsewhere). Objects leave the partial slab that has waited longest; an empty slab goes back to the zones once the cache
holds more free objects than its limit.

Linux: mm/slab.c, 2.6.7. Differences: no per-cpu object arrays (an object is free or in use, nothing between), no
colouring.
"""

from __future__ import annotations

from collections.abc import Callable

from mmcore.errors import InvariantViolation, OutOfMemory
from mmcore.physical.frames import PG_SLAB, SLAB, VMALLOC
from mmcore.physical.gfp import GFP_KERNEL
from mmcore.physical.ram import PAGE_SHIFT, PAGE_SIZE
from mmcore.physical.zones import PageAllocator

PAGE_OFFSET = 0xC0000000
_SLAB_HEADER = 24
_BUFCTL = 2
_OFF_SLAB_SIZE = PAGE_SIZE >> 3  # objects this big keep header and bufctl off the slab
_MAX_ORDER = 5
_MUCH_RAM = (32 << 20) // PAGE_SIZE  # frames; with more, slabs of order 2 are not shunned


def objects_per_slab(size: int, order: int) -> int:
    """How many objects of `size` bytes a slab of `1 << order` frames holds. Linux: cache_estimate, 2.6.7."""
    space = PAGE_SIZE << order
    if size >= _OFF_SLAB_SIZE:
        return space // size
    return (space - _SLAB_HEADER) // (size + _BUFCTL)


def _left_over(size: int, order: int) -> int:
    """Bytes of a slab that neither objects nor the header and bufctls beside them use."""
    n = objects_per_slab(size, order)
    beside = 0 if size >= _OFF_SLAB_SIZE else _SLAB_HEADER + n * _BUFCTL
    return (PAGE_SIZE << order) - n * size - beside


class _Slab:
    __slots__ = ("pfn", "free", "inuse")

    def __init__(self, pfn: int, free: list[int]) -> None:
        self.pfn = pfn
        self.free = free
        self.inuse = 0


class KmemCache:
    """Objects of one size. `slabs` are held, `frames` is what they cost."""

    __slots__ = (
        "name",
        "size",
        "objsize",
        "order",
        "per_slab",
        "objects",
        "peak_objects",
        "peak_slabs",
        "allocations",
        "_ctor",
        "_pages",
        "_slabs",
        "_partial",
        "_empty",
        "_current",
        "_shift",
        "_limit",
    )

    size: int  # bytes that an object takes in its slab: objsize, aligned
    objsize: int  # bytes that were asked for
    order: int  # a slab is 1 << order frames
    per_slab: int  # objects that fit into one
    # Objects in use: now, and most ever; most slabs ever held; objects handed out since boot.
    objects: int
    peak_objects: int
    peak_slabs: int
    allocations: int

    def __init__(
        self,
        pages: PageAllocator,
        name: str,
        size: int,
        align: int = 0,
        hwcache: int = 0,
        ctor: Callable[[int, int], None] | None = None,
    ) -> None:
        """`ctor(pfn, order)` is told of a new slab's frames, before its objects are handed out."""
        if size <= 0 or size > PAGE_SIZE << _MAX_ORDER:
            raise ValueError(f"slab cache {name}: object size {size} is out of range")
        self.name = name
        self.objsize = size
        align = max(align, hwcache, 4)
        self.size = (size + align - 1) // align * align
        order = 0
        while objects_per_slab(self.size, order) == 0:
            order += 1
        # A larger order while more than an eighth of the slab is left over, up to slab_break_gfp_order.
        limit = 2 if pages.frames.nr > _MUCH_RAM else 1
        while order < limit and _left_over(self.size, order) * 8 > PAGE_SIZE << order:
            order += 1
        self.order = order
        self.per_slab = objects_per_slab(self.size, order)
        self.objects = self.peak_objects = self.peak_slabs = self.allocations = 0
        self._ctor = ctor
        self._pages = pages
        self._slabs: dict[int, _Slab] = {}
        self._partial: dict[int, _Slab] = {}
        self._empty: dict[int, _Slab] = {}
        self._current: _Slab | None = None
        self._shift = PAGE_SHIFT + order
        self._limit = 1  # empty slabs kept

    @property
    def slabs(self) -> int:
        return len(self._slabs)

    @property
    def frames(self) -> int:
        return len(self._slabs) << self.order

    def alloc(self, gfp: int = GFP_KERNEL) -> int:
        """Kernel address of an object (content undefined). Raises OutOfMemory."""
        if self._pages.inject is not None and self._pages.inject(-1):
            raise OutOfMemory(f"injected in {self.name}")
        slab = self._current
        if slab is None or not slab.free:
            slab = self._refill(gfp)
        slab.inuse += 1
        n = self.objects + 1
        self.objects = n
        self.allocations += 1
        if n > self.peak_objects:
            self.peak_objects = n
        return slab.free.pop()

    def alloc_bulk(self, n: int, gfp: int = GFP_KERNEL) -> list[int]:
        """`n` objects, as that many calls of alloc would give them. Raises OutOfMemory, leaving nothing allocated."""
        if self._pages.inject is not None:
            return self._alloc_each(n, gfp)
        out: list[int] = []
        try:
            while len(out) < n:
                slab = self._current
                if slab is None or not slab.free:
                    slab = self._refill(gfp)
                free = slab.free
                k = min(n - len(out), len(free))
                out += free[: -k - 1 : -1]
                del free[-k:]
                slab.inuse += k
                self.objects += k
                self.allocations += k
        except OutOfMemory:
            for address in out:
                self.free(address)
            raise
        finally:
            if self.objects > self.peak_objects:
                self.peak_objects = self.objects
        return out

    def _alloc_each(self, n: int, gfp: int) -> list[int]:
        out: list[int] = []
        try:
            for _ in range(n):
                out.append(self.alloc(gfp))
        except OutOfMemory:
            for address in out:
                self.free(address)
            raise
        return out

    def _refill(self, gfp: int) -> _Slab:
        if self._partial:
            base, slab = next(iter(self._partial.items()))
            del self._partial[base]
        elif self._empty:
            base, slab = self._empty.popitem()
        else:
            slab = self._grow(gfp)
        left = self._current
        if left is not None and left.free:
            # The allocation reclaimed, and reclaim freed objects of this cache or grew it too.
            key = PAGE_OFFSET + (left.pfn << PAGE_SHIFT) >> self._shift
            (self._partial if left.inuse else self._empty)[key] = left
        self._current = slab
        return slab

    def _grow(self, gfp: int) -> _Slab:
        pages = self._pages
        pfn = pages.alloc_pages(self.order, gfp, SLAB)
        for p in range(pfn, pfn + (1 << self.order)):
            pages.frames.flags[p] |= PG_SLAB
        if self._ctor is not None:
            self._ctor(pfn, self.order)
        base = PAGE_OFFSET + (pfn << PAGE_SHIFT)
        if self.size < _OFF_SLAB_SIZE:
            first = base + (PAGE_SIZE << self.order) - self.per_slab * self.size
            first -= (first - base) % max(4, self.size & -self.size)
            first = max(first, base + _SLAB_HEADER)
        else:
            first = base
        if (
            self.size & (self.size - 1) == 0
        ):  # cache lines: naturally aligned, the header takes the first objects' place
            first = base + (PAGE_SIZE << self.order) - self.per_slab * self.size
        slab = _Slab(pfn, [first + i * self.size for i in range(self.per_slab - 1, -1, -1)])
        self._slabs[base >> self._shift] = slab
        if len(self._slabs) > self.peak_slabs:
            self.peak_slabs = len(self._slabs)
        return slab

    def free(self, address: int) -> None:
        key = address >> self._shift
        slab = self._slabs.get(key)
        if slab is None or slab.inuse <= 0:
            raise InvariantViolation(f"slab {self.name}: free of {address:#x}, which it did not hand out")
        was_full = not slab.free
        slab.free.append(address)
        slab.inuse -= 1
        self.objects -= 1
        if slab is self._current:
            return
        if slab.inuse == 0:
            self._partial.pop(key, None)
            self._empty[key] = slab
            if len(self._empty) > self._limit:
                self._destroy(next(iter(self._empty)))
        elif was_full:
            self._partial[key] = slab

    def _destroy(self, key: int) -> None:
        slab = self._empty.pop(key)
        del self._slabs[key]
        self._pages.free_pages(slab.pfn, self.order)

    def shrink(self) -> int:
        """Gives every empty slab back; returns the frames freed."""
        freed = 0
        if self._current is not None and self._current.inuse == 0:
            slab, self._current = self._current, None
            self._empty[(PAGE_OFFSET + (slab.pfn << PAGE_SHIFT)) >> self._shift] = slab
        while self._empty:
            self._destroy(next(iter(self._empty)))
            freed += 1 << self.order
        return freed

    def check(self) -> list[str]:
        """Sums that must agree; a list of what does not."""
        inuse = sum(s.inuse for s in self._slabs.values())
        wrong = []
        if inuse != self.objects:
            wrong.append(f"slab {self.name}: {self.objects} objects on the books, {inuse} in its slabs")
        for key, slab in self._slabs.items():
            where = f"slab {self.name}: frame {slab.pfn:#x}"
            if slab.inuse + len(slab.free) != self.per_slab:
                wrong.append(f"{where} has {slab.inuse} + {len(slab.free)} objects of {self.per_slab}")
            if len(set(slab.free)) != len(slab.free):
                wrong.append(f"{where} has an object that is free twice")
            if slab.free and slab is not self._current and key not in self._partial and key not in self._empty:
                wrong.append(f"{where} has {len(slab.free)} free objects that nobody will find")
        return wrong


_KMALLOC_SIZES = (32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)


class Slab:
    """All caches, the general ones (kmalloc) and vmalloc."""

    def __init__(self, pages: PageAllocator) -> None:
        self._pages = pages
        self.caches: dict[str, KmemCache] = {}
        self._kmalloc: dict[int, KmemCache] = {}
        self._vmalloc: dict[int, tuple[str, list[int]]] = {}
        self._next_token = 1

    def cache(
        self,
        name: str,
        size: int,
        align: int = 0,
        hwcache: int = 0,
        ctor: Callable[[int, int], None] | None = None,
    ) -> KmemCache:
        """The cache of that name, made at the first call. `size`, `align` in bytes; `hwcache` = cache-line size
        to align to, or 0; `ctor` as KmemCache has it."""
        cache = self.caches.get(name)
        if cache is None:
            cache = self.caches[name] = KmemCache(self._pages, name, size, align, hwcache, ctor)
        elif cache.objsize != size:
            raise ValueError(f"slab cache {name} exists with objects of {cache.objsize} bytes, not {size}")
        return cache

    def kmalloc(self, size: int, gfp: int = GFP_KERNEL) -> int:
        """An object of the smallest general cache that fits."""
        for step in _KMALLOC_SIZES:
            if size <= step:
                cache = self._kmalloc.get(step)
                if cache is None:
                    cache = self._kmalloc[step] = self.cache(f"size-{step}", step)
                return cache.alloc(gfp)
        raise OutOfMemory(f"kmalloc of {size} bytes")

    def kfree(self, address: int) -> None:
        for cache in self._kmalloc.values():
            if address >> cache._shift in cache._slabs:
                cache.free(address)
                return
        raise InvariantViolation(f"kfree of {address:#x}, which kmalloc did not hand out")

    def vmalloc(self, nbytes: int, name: str) -> int:
        """Charges whole frames to `name`; returns a token for vfree."""
        frames: list[int] = []
        try:
            for _ in range((nbytes + PAGE_SIZE - 1) >> PAGE_SHIFT):
                frames.append(self._pages.alloc_page(GFP_KERNEL, VMALLOC))
        except OutOfMemory:
            for pfn in frames:
                self._pages.put_page(pfn)
            raise
        token = self._next_token
        self._next_token += 1
        self._vmalloc[token] = (name, frames)
        return token

    def vfree(self, token: int) -> None:
        for pfn in self._vmalloc.pop(token)[1]:
            self._pages.put_page(pfn)

    def vmalloc_areas(self) -> list[tuple[str, int]]:
        """(name, frames) of each live vmalloc area."""
        return [(name, len(frames)) for name, frames in self._vmalloc.values()]

    def shrink_all(self) -> int:
        return sum(cache.shrink() for cache in self.caches.values())
