"""The guide names the whole contract: each hook with its true signature, each meter that a scheme counts, each field of
the card."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from mmcore.areas.mm import Mm
from mmcore.areas.vma import VmArea
from mmcore.physical.slab import KmemCache
from mmcore.rmap import Card, MachineFacts, RmapScheme, ScanScheme, SchemeEnv, Setup, WalkScheme
from mmcore.stats import Meters

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/writing-a-scheme.md").read_text()
SIGNATURES = GUIDE.partition("## Signatures")[2].split("```")[1]
HOOKS = {
    name: kind
    for kind in (RmapScheme, WalkScheme, ScanScheme)
    for name, member in vars(kind).items()
    if not name.startswith("_") and (callable(member) or isinstance(member, classmethod))
}
COUNTED = {
    meter
    for file in (ROOT / "rmap_plugins").glob("*.py")
    for meter in re.findall(r"meters\.(\w+) \+=", file.read_text())
}


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_with_its_signature(hook: str) -> None:
    parameters = inspect.signature(getattr(HOOKS[hook], hook)).parameters.values()
    written = ", ".join(str(p.replace(annotation=p.empty)) for p in parameters if p.name != "self")
    assert f"{hook}({written})" in SIGNATURES.splitlines()


def test_no_hook_that_is_none() -> None:
    assert {line.partition("(")[0] for line in SIGNATURES.split("\n") if line} == set(HOOKS)


@pytest.mark.parametrize(
    "name",
    sorted(
        COUNTED | {field.name for kind in (Card, Setup, MachineFacts) for field in fields(kind)} - {"page", "vma", "mm"}
    ),
)
def test_each_meter_and_field(name: str) -> None:
    assert name in Meters.NAMES or name not in COUNTED
    assert re.search(rf"\b{name}\b", GUIDE), f"{name} is not named"


@pytest.mark.parametrize(
    "name", [name for name in SchemeEnv.__slots__ if name not in ("slab", "scheme_caches")] + ["cache", "pte_owner"]
)
def test_what_the_core_lends(name: str) -> None:
    assert re.search(rf"\b{name}\b", GUIDE)


def test_attributes_that_are_named_exist() -> None:
    assert {"rmap", "anon_vma", "vm_mm", "vm_start", "vm_end", "vm_pgoff", "vm_flags", "mapping", "addr"} <= set(
        VmArea.__slots__
    )
    assert {"rmap", "addr", "vmas", "pgd", "rss"} <= set(Mm.__slots__) and hasattr(KmemCache, "alloc_bulk")
