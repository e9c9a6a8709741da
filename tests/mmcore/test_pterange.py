"""PteRange against the same asked entry by entry; and nobody else takes PTE words apart in numpy."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import numpy as np
import pytest

from mmcore.memory import Memory, MemoryConfig
from mmcore.paging.lifecycle import mm_alloc
from mmcore.physical.frames import PG_RESERVED
from mmcore.physical.pgtable import FILE, PRESENT, PROTNONE, A, D, P, U, W
from mmcore.physical.pterange import PteRange, move_ptes, pte_slices
from rmap_plugins.anon_vma import AnonVma

PAGINGS = ("pae", "2level")
ROOT = Path(__file__).resolve().parents[2]


class Filled:
    """An address space with tables at three places, a gap between them, and entries of every kind at random."""

    def __init__(self, paging: str, seed: int, present_only: bool = False) -> None:
        self.mem = Memory(MemoryConfig(16 << 20, 1 << 20, paging), AnonVma)
        self.tables = self.mem.pgtables
        self.mm = mm_alloc(self.mem)
        rng = random.Random(seed)
        span = 1 << self.tables.SHIFT
        self.start, self.end = span - (40 << 12), 4 * span + (30 << 12)
        self.reserved = 700
        self.mem.frames.flags[self.reserved] |= PG_RESERVED
        self.ptes: dict[int, tuple[int, int]] = {}  # address -> (index, word), of every entry there is a table for
        for first in (0, span, 4 * span):
            base = self.tables.pte_alloc(self.mm, first)
            for k in range(self.tables.PTRS):
                address = first + (k << 12)
                word = self._word(rng, present_only)
                self.tables.ptes[base + k] = word
                if self.start <= address < self.end:
                    self.ptes[address] = (base + k, word)

    def _word(self, rng: random.Random, present_only: bool) -> int:
        tables = self.tables
        kind = rng.choice(("present", "no access") if present_only else ("", "present", "no access", "swap", "file"))
        bits = rng.choice((0, A)) | rng.choice((0, D)) | rng.choice((0, W))
        pfn = rng.choice((self.reserved, self.mem.frames.nr + 5, rng.randrange(1000, 3000)))
        if kind == "present":
            return pfn << 12 | P | U | bits | rng.choice((0, tables.NX))
        if kind == "no access":
            return pfn << 12 | PROTNONE | bits
        if kind == "swap":
            return tables.swp_pte(rng.randrange(4) << 27 | rng.randrange(1, 1 << 20))
        return tables.file_pte(rng.randrange(1 << 20)) if kind == "file" else 0

    def range(self) -> PteRange:
        return PteRange.of(self.tables, self.mm.pgd, self.start, self.end)

    def now(self) -> list[int]:
        """The words of the range as they stand in the tables."""
        return [self.tables.ptes[i] for i, _ in self.ptes.values()]


@pytest.fixture(params=[(p, only) for p in PAGINGS for only in (False, True)], ids=lambda p: f"{p[0]}-{p[1]}")
def filled(request: pytest.FixtureRequest) -> Filled:
    return Filled(request.param[0], 7, request.param[1])


def test_what_stands_in_it(filled: Filled) -> None:
    mem, tables, found = filled.mem, filled.tables, filled.range().read()
    words = [word for _, word in filled.ptes.values()]
    addresses, indices = list(filled.ptes), [i for i, _ in filled.ptes.values()]
    assert len(found.slices) == 3 and found.entries.tolist() == words
    everything = np.arange(len(words))
    assert found.indices(everything).tolist() == indices
    assert found.addresses(everything).tolist() == addresses
    assert found.filled().tolist() == [k for k, word in enumerate(words) if word]
    present = [k for k, word in enumerate(words) if word & PRESENT]
    assert found.present().tolist() == present
    assert found.present(found.filled()).tolist() == present
    assert found.swapped() == [tables.pte_to_swp(w) for w in words if w and not w & (PRESENT | FILE)]
    assert found.has(D, found.present()).tolist() == [bool(words[k] & D) for k in present]
    pfns = [words[k] >> 12 & tables.PFN_MASK for k in present]
    assert found.pfns(found.present()).tolist() == pfns
    assert filled.reserved in pfns and max(pfns) > mem.frames.nr
    flags = mem.frames.flags
    counted = [n for n, pfn in enumerate(pfns) if pfn < mem.frames.nr and not flags[pfn] & PG_RESERVED]
    at, got = found.pages(mem.frames, found.present())
    assert at.tolist() == [present[n] for n in counted] and got.tolist() == [pfns[n] for n in counted]


def test_a_range_without_tables_is_empty(filled: Filled) -> None:
    span = 1 << filled.tables.SHIFT
    found = PteRange.of(filled.tables, filled.mm.pgd, 2 * span, 3 * span).read()
    assert not found.slices and not len(found.present()) and not found.swapped()
    assert not len(found.indices(found.filled())) and not len(found.addresses(found.filled()))
    assert pte_slices(filled.tables, filled.mm.pgd, 2 * span, 3 * span) == []


def test_changes(filled: Filled) -> None:
    words = [word for _, word in filled.ptes.values()]
    tables, found = filled.tables, filled.range().read()
    found.clear_bits(W)
    words = [w & ~W if w & PRESENT else w for w in words]
    assert filled.now() == words == found.entries.tolist()
    young = found.present()[::3]
    found.clear_bits_at(A, young)
    for k in young.tolist():
        words[k] &= ~A
    assert filled.now() == words
    keep = tables.PFN_MASK << 12 | A | D
    assert found.read().protect(keep, PROTNONE)
    words = [w & keep | PROTNONE if w & PRESENT else w for w in words]
    assert filled.now() == words == found.entries.tolist()
    assert found.without(A | D).tolist() == [w & ~(A | D) if w & PRESENT else w for w in words]
    found.clear()
    assert not any(filled.now()) and found.entries.tolist() == words
    assert not found.read().protect(keep, P)


@pytest.mark.parametrize("paging", PAGINGS)
def test_changes_end_where_the_range_ends(paging: str) -> None:
    filled = Filled(paging, 3)
    before = filled.tables.np_ptes.copy()
    filled.range().read().clear_bits(W)
    filled.range().clear()
    changed = np.nonzero(filled.tables.np_ptes != before)[0].tolist()
    assert changed == sorted(i for i, word in filled.ptes.values() if word)


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("by", [5, 200])
def test_moves_apart_and_onto_themselves(paging: str, by: int) -> None:
    """A run of 100 entries to `by` entries below; with 5 they overlap."""
    filled = Filled(paging, 5)
    i = next(iter(filled.ptes.values()))[0] // filled.tables.PTRS * filled.tables.PTRS + 220
    ptes, n = filled.tables.ptes, 100
    words = ptes[i : i + n].tolist()
    filled.tables.np_ptes[i - by : i] = 0
    sources, targets = [(i, i + 60), (i + 60, i + n)], [(i - by, i - by + 60), (i - by + 60, i - by + n)]
    move_ptes(filled.tables, sources, targets, by >= n)
    assert ptes[i - by : i - by + n].tolist() == words
    assert not any(ptes[max(i, i - by + n) : i + n])


# --- nobody else

_WORDS = ("mmcore/physical/pgtable.py", "mmcore/physical/pterange.py")
_BITS = {"P", "W", "U", "A", "D", "FILE", "PROTNONE", "PRESENT", "PFN_MASK", "NX"}


def _typed(node: ast.expr, kinds: set[str]) -> bool:
    """A scalar made in the type of an array: `kind(...)` where `kind = x.dtype.type`, `x.dtype.type(...)`, or
    one of numpy's types of a bit of PTEs."""
    if isinstance(node, ast.UnaryOp):
        return _typed(node.operand, kinds)
    if not isinstance(node, ast.Call):
        return False
    maker = node.func
    if ast.unparse(maker) in ("np.uint32", "np.uint64"):
        named = (part for arg in node.args for part in ast.walk(arg) if isinstance(part, ast.Name | ast.Attribute))
        return any((part.id if isinstance(part, ast.Name) else part.attr) in _BITS for part in named)
    return (isinstance(maker, ast.Name) and maker.id in kinds) or ast.unparse(maker).endswith(".dtype.type")


def taken_apart(source: str) -> list[int]:
    """Lines that shift or mask an array with a scalar of its own type, or do so to `np_ptes` itself."""
    tree = ast.parse(source)
    kinds = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.value).endswith(".dtype.type")
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp):
            sides, op = (node.left, node.right), node.op
        elif isinstance(node, ast.AugAssign):
            sides, op = (node.target, node.value), node.op
        else:
            continue
        words = any(_typed(side, kinds) or "np_ptes" in ast.unparse(side) for side in sides)
        if words and isinstance(op, ast.BitAnd | ast.BitOr | ast.BitXor | ast.LShift | ast.RShift):
            found.add(node.lineno)
    return sorted(found)


@pytest.mark.parametrize(
    "line",
    [
        "pfns = (ptes >> kind(12) & kind(mask)).astype(np.int64)",
        "dirty = (entries & kind(D)) != 0",
        "entries &= ~kind(A)",
        "present = entries & entries.dtype.type(PRESENT)",
        "young = part & np.uint64(A | D)",
        "found = mem.pgtables.np_ptes[i:j] & 1",
    ],
)
def test_what_counts_as_taking_words_apart(line: str) -> None:
    assert taken_apart("kind = entries.dtype.type\n" + line) == [2]


def test_only_the_page_tables_take_words_apart_in_numpy() -> None:
    found: dict[str, list[int]] = {}
    for folder in ("mmcore", "sandbox", "rmap_plugins"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            lines = taken_apart(path.read_text())
            if name in _WORDS:
                assert lines or name != _WORDS[0], "the search finds what it is made to find"
            elif lines:
                found[name] = lines
    assert not found
