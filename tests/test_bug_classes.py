"""docs/bug-classes.md explains every class and every trap once, and each test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "bug-classes.md").read_text()
CLASSES = [*map(str, range(1, 33)), *(f"T{n}" for n in range(1, 19))]


def entries(page: str) -> list[tuple[str, str]]:
    """(number, text) of each class and trap, in the order of the page."""
    pieces = re.split(r"^### (T?\d+)\. .+\n", page, flags=re.M)
    return [(number, text.partition("\n## ")[0]) for number, text in zip(pieces[1::2], pieces[2::2], strict=True)]


def named(text: str) -> list[str]:
    """The tests that an entry's last paragraph names, as FILE::TEST."""
    paragraph = re.search(r"^Held by: ((?:.+\n)+)\s*\Z", text, re.M)
    assert paragraph, f"no tests at its end: {text[:60]!r}"
    tests = re.split(r",\s+", paragraph[1].strip())
    assert all(re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`", test) for test in tests), tests
    return [test.strip("`") for test in tests]


@cache
def defined_in(file: str) -> set[str]:
    """The names of a test file's test functions, without running it."""
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


ENTRIES = entries(PAGE)


def test_each_class_and_each_trap_is_there_once_and_in_order() -> None:
    assert [number for number, _ in ENTRIES] == CLASSES


@pytest.mark.parametrize(("number", "text"), ENTRIES, ids=[number for number, _ in ENTRIES])
def test_each_is_explained_and_held_by_tests_that_exist(number: str, text: str) -> None:
    explained = text.partition("Held by:")[0].split()
    assert len(explained) >= 30, "say what goes wrong, where it did, and how one sees it"
    for test in named(text):
        file, _, name = test.partition("::")
        assert (ROOT / file).is_file(), f"there is no {file}"
        assert name in defined_in(file), f"{file} has no {name}"


def test_every_canary_is_named_under_the_trap_of_its_number() -> None:
    """And no other: a new canary comes with its trap's entry."""
    canaries = {name for name in defined_in("tests/cpu/test_canaries.py") if re.match(r"test_t\d+_", name)}
    found = {
        name
        for number, text in ENTRIES
        for name in re.findall(r"test_canaries\.py::(test_\w+)", text)
        if number.startswith("T") and name.startswith(f"test_t{int(number[1:]):02}_")
    }
    assert found == canaries


def test_a_page_that_lacks_one_is_noticed() -> None:
    """The reader of the page can tell: a heading that is gone, a test that is misspelt."""
    without = PAGE.replace("### 17. ", "#### 17. ")
    assert without != PAGE and [number for number, _ in entries(without)] == [n for n in CLASSES if n != "17"]
    with pytest.raises(AssertionError, match="no tests at its end"):
        named("Something goes wrong.\n")
    assert "test_no_such" not in defined_in("tests/test_bug_classes.py")
