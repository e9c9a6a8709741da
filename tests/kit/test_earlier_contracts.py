"""A scheme written for an earlier contract is refused with one line that says what takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmcore.errors import PluginError
from sandbox.schemes.registry import load_scheme

MINE = """
from rmap_plugins.anon_vma import AnonVma
from mmcore.rmap import Card{imports}
class Mine(AnonVma):
    {body}
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def remove_one(self, vma, pfn, pte): pass", "remove_one is no hook: remove(vma, pfns, ptes)"),
        ("def released_one(self, pfn): pass", "released(pfns)"),
        ("def file_released(self, pfn): pass", "released(pfns) is called for pages of files too"),
        ("def vma_linked(self, vma): pass", "an area without pages needs no record"),
        ("def vma_merged(self, into, vma): pass", "vma_unlinked(vma, into)"),
        ("def mm_forked(self, mm, parent): pass", "mm_created(mm, parent) names the parent"),
        ("layout = classmethod(lambda cls, *a: None)", "fields of the Setup"),
        ("variant = classmethod(lambda cls, *a: None)", "the field scheme of the Setup"),
        ("file_index = classmethod(lambda cls, *a: None)", "a field of the Setup"),
        ("nonlinear_areas = classmethod(lambda cls, *a: None)", "a field of the Setup"),
        ("def walk(self, pfn, purpose, visit): pass", "walk(walk) is given the question: walk.pfn, walk.purpose"),
        ("def nonlinear_addresses(self, pfn, purpose): pass", "nonlinear_addresses(walk) is given the walk"),
        ("card = Card('a', 'b', 'c', 'd', 'e', file_index='list')", "file_index is no field of the card"),
        ("card = Card('a', 'b', 'c', 'd', 'e', capabilities=1)", "derive from WalkScheme or ScanScheme"),
    ],
)
def test_what_takes_its_place_is_said(tmp_path: Path, body: str, said: str) -> None:
    assert said in refusal(tmp_path, body)


@pytest.mark.parametrize(("name", "said"), [("Visit", "walk.visit(mm, address, vma, pte)"), ("Layout", "Setup")])
def test_a_name_that_is_gone_is_explained(tmp_path: Path, name: str, said: str) -> None:
    assert said in refusal(tmp_path, "pass", f", {name}")


def refusal(tmp_path: Path, body: str, imports: str = "") -> str:
    path = tmp_path / "mine.py"
    path.write_text(MINE.format(body=body, imports=imports))
    with pytest.raises(PluginError) as error:
        load_scheme(f"{path}:Mine")
    text = str(error.value)
    assert "written for an earlier contract" in text and "\n" not in text
    return text
