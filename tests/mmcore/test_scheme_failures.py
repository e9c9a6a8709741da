"""No memory for a scheme's own objects: what needs one fails before it has changed anything, and works once there is
memory."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from mmcore.calls.swapoff import swap_off
from mmcore.errors import OutOfMemory, SysError
from mmcore.physical.slab import KmemCache
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED
from tests.mmcore.box import AT, SCHEMES, Box

chains = pytest.mark.parametrize("scheme", ["pte_chain"])


@chains
@pytest.mark.parametrize("operation", ["fault", "fork", "mremap"])
def test_no_memory_for_a_chain_changes_nothing(scheme: str, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It used to be an oops. Now it is ENOMEM, before anything has changed."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 20)
    other = b.new_mm()
    for mm in (b.mm, other):
        b.map(0, 20, flags=MAP_SHARED | MAP_FIXED, file=file, mm=mm)
    b.put(*range(20))
    b.put(*(range(4) if operation == "fault" else range(20)), mm=other)
    family = [b.fork(b.mm) for _ in range(5)] if operation == "fork" else []  # seven mappings: the heads are full
    cache, chain = b.mem.slab.caches["pte_chain"], b.mem.scheme
    assert isinstance(chain, PteChain)
    if chain._stash:
        chain._cache.free(chain._stash + 0xC0000000)
        chain._stash = 0

    def refuse(name: str) -> None:
        plain = getattr(KmemCache, name)

        def maybe(self: KmemCache, *args: Any, **options: Any) -> Any:
            if self is cache:
                raise OutOfMemory("no chain")
            return plain(self, *args, **options)

        monkeypatch.setattr(KmemCache, name, maybe)

    refuse("alloc")
    refuse("alloc_bulk")
    living = len(b.mem.mms)
    if operation == "fault":
        with pytest.raises(MemoryError):
            b.store(other, AT + 0x5000, 1)
    else:
        with pytest.raises(SysError, match="ENOMEM"):
            b.fork(other) if operation == "fork" else b.mremap(0, 20, 100, mm=other)
    assert len(b.mem.mms) == living
    b.audit("refused")
    monkeypatch.undo()
    b.has(*range(20))
    if operation == "fork":
        b.exit(b.fork(other))
    elif operation == "mremap":
        b.mremap(0, 20, 100, mm=other)
        b.has(*range(20), mm=other, shift=100)
    else:
        b.has(*range(20), mm=other)
    b.audit()
    for mm in family:
        b.has(*range(20), mm=mm)


each = pytest.mark.parametrize("scheme", SCHEMES)


def _swapoff(b: Box, mms: list[Any]) -> None:
    for queue in swap_off(b.mem, b.mem.swap.areas[0]):
        b.mem.reclaim.wait_sync(queue)


OPERATIONS: dict[str, Callable[[Box, list[Any]], object]] = {
    "exec": lambda b, mms: b.exit(b.new_mm()),
    "fault": lambda b, mms: b.put(30, mm=mms[1]),
    "file_fault": lambda b, mms: b.has(51, mm=mms[-1]),
    "fork": lambda b, mms: b.exit(b.fork(mms[2])),
    "mremap": lambda b, mms: b.mremap(0, 16, 100, mm=mms[3]),
    "swap-in": lambda b, mms: [b.has(0, 1, 2, mm=mm) for mm in mms],
    "swapoff": _swapoff,
}


# Who has to allocate where; the fault path preallocates what it may not need.
NEEDS = {
    "pte_chain": {"fault", "file_fault", "fork", "mremap", "swap-in", "swapoff"},
    "partial_objrmap": {"fault", "fork", "mremap", "swap-in", "swapoff"},
    "anonmm": {"exec", "fork"},
    "anonmm_chained": {"exec", "fault", "fork", "mremap", "swap-in", "swapoff"},
    "anon_vma": {"fault"},
    "rmap_series-7": {"fault", "fork", "mremap", "swap-in", "swapoff"},
    "rmap_series-17": {"exec", "fork"},
}


@each
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_memory_for_an_object_changes_nothing(scheme: str, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven processes share 16 pages and a file; then the scheme's caches are empty. An operation that needs an object
    fails with ENOMEM, before it has changed anything; it works once there is memory."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 4)
    b.map(0, 16)
    b.map(50, 4, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(*range(16), 50, 51)
    mms = [b.mm, *(b.fork(b.mm) for _ in range(6))]
    for mm in mms:
        b.map(30, 1, mm=mm)
        if mm is not mms[-1]:
            b.has(51, mm=mm)
    b.munmap(mms[-1], AT + (51 << 12), 1)
    b.map(51, 1, flags=MAP_SHARED | MAP_FIXED, file=file, pgoff=1, mm=mms[-1])
    if operation in ("swap-in", "swapoff"):
        b.swap_out()
        b.mremap(0, 3, 200, mm=mms[4])
        b.mremap(200, 3, 0, mm=mms[4])
    caches = b.mem.scheme.env.scheme_caches
    _use_up(b)
    refused = 0

    def refuse(name: str) -> None:
        plain = getattr(KmemCache, name)

        def maybe(self: KmemCache, *args: Any, **options: Any) -> Any:
            nonlocal refused
            if self in caches:
                refused += 1
                raise OutOfMemory("no object for the scheme")
            return plain(self, *args, **options)

        monkeypatch.setattr(KmemCache, name, maybe)

    refuse("alloc")
    refuse("alloc_bulk")
    living = set(b.mem.mms)
    try:
        OPERATIONS[operation](b, mms)
    except SysError as error:
        assert error.errno == errno.ENOMEM and refused
    except MemoryError:
        assert refused
    else:
        assert not refused
    assert set(b.mem.mms) == living
    b.audit("refused")
    monkeypatch.undo()
    if refused or operation not in ("mremap", "swapoff"):
        OPERATIONS[operation](b, mms)
    b.audit("afterwards")
    for mm in mms:
        b.has(*range(16), mm=mm, shift=100 if operation == "mremap" and mm is mms[3] else 0)
        b.has(50, 51, mm=mm)
    if scheme in NEEDS:
        assert (operation in NEEDS[scheme]) == (refused > 0)


def _use_up(b: Box) -> None:
    """The one node that pte_chain (its per-cpu stash) and anonmm_chained keep in hand goes back."""
    scheme: Any = b.mem.scheme
    if getattr(scheme, "_stash", 0):
        scheme._cache.free(scheme._stash + 0xC0000000)
        scheme._stash = 0
    for node in getattr(scheme, "_spare", ()):
        scheme._nodes.free(node)
    if hasattr(scheme, "_spare"):
        scheme._spare.clear()
