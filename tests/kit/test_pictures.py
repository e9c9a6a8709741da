"""The page of pictures: its drawings are the product's, of every bundled scheme in every moment, and fit 80 columns."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

from rich.cells import cell_len

from mmcore.rmap import NEXT, ROOT, Edge, Node, Picture
from sandbox.kit.pictures import MOMENTS, redrawn, story
from sandbox.lab.picture import MOST, WIDTH, shown, tree
from sandbox.result import PageShown
from tests.mmcore.box import KINDS

BUNDLED = [kind.card.name for kind in KINDS if kind.__module__.startswith("rmap_plugins.")]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reverse-mapping.md").read_text()


def test_the_drawings_are_those_of_the_product() -> None:
    assert redrawn(PAGE) == PAGE


def test_every_scheme_in_every_moment() -> None:
    drawn = set(re.findall(r"<!-- drawn: (\S+) (\w+) -->", PAGE))
    assert len(BUNDLED) == 8
    assert {(scheme, moment) for scheme, moment in product(BUNDLED, MOMENTS) if moment != "file"} <= drawn
    assert ("partial_objrmap", "file") in drawn


def test_a_drawing_that_is_not_the_products_is_seen() -> None:
    changed = PAGE.replace("2 of 7 slots used", "3 of 7 slots used", 1)
    assert changed != PAGE and redrawn(changed) == PAGE


def test_it_fits() -> None:
    blocks = re.findall(r"<!-- drawn: .*? -->\n```\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 34
    for line in "".join(blocks).splitlines():
        assert cell_len(line) <= WIDTH, line


def test_options_of_a_scheme() -> None:
    assert "(64 bytes): 2 of 15 slots used" in story("pte_chain:cache_line=64", "forked").drawn()


# --- the renderer


def drawn(*edges: tuple[int, int, str], nodes: int) -> str:
    kinds = [Node("frame", 0xC0005000, 4096, "anonymous, mapped by 0 PTEs")]
    kinds += [Node(f"kind{place}", 0xC0000000 + place, 8) for place in range(1, nodes)]
    return tree(Picture(5, kinds, [Edge(*edge) for edge in edges]), {}, "ascii")


def test_lists_stand_side_by_side() -> None:
    text = drawn((0, 1, "head"), (1, 2, NEXT), (2, 3, NEXT), (2, 4, "pte"), (3, 1, NEXT), nodes=5)
    assert text.splitlines()[1:] == [
        "|- head: kind1 c0000001 (8 bytes)",
        "|- next: kind2 c0000002 (8 bytes)",
        "|  `- pte: kind4 c0000004 (8 bytes)",
        "`- next: kind3 c0000003 (8 bytes)",
    ]


def test_two_ways_to_one_structure_and_none() -> None:
    text = drawn((0, 1, "a"), (0, 2, "b"), (1, 3, ""), (2, 3, ""), (3, 0, "back"), nodes=5)
    assert text.splitlines()[1:] == [
        "|- a: kind1 c0000001 (8 bytes)",
        "|  `- kind3 c0000003 (8 bytes)",
        "|     `- back: frame 0x5 at c0005000: anonymous, mapped by 0 PTEs (as above)",
        "`- b: kind2 c0000002 (8 bytes)",
        "   `- kind3 c0000003 (8 bytes) (as above)",
        "kind4 c0000004 (8 bytes)",
    ]
    assert ROOT < 0  # no node's place


def test_a_long_list_is_cut() -> None:
    nodes = MOST + 5
    lines = drawn(*((0, place, "") for place in range(1, nodes)), nodes=nodes).splitlines()
    assert lines[-1] == "`- and 8 more" and len(lines) == 1 + 12 + 1
    assert len(drawn(*((0, place, "") for place in range(1, MOST + 1)), nodes=MOST + 1).splitlines()) == 1 + MOST


def test_a_reason_in_place_of_a_picture() -> None:
    assert shown(PageShown("2:0x1000", reason="no process 2 ran")) == "picture     2:0x1000: no process 2 ran"
