"""A fragment is found whatever the layout of the file, and put in its place so that the file is Python still."""

from __future__ import annotations

import ast

import pytest

from tests.mutations.fragments import FragmentError, replaced

SOURCE = '''
class Scheme:
    """Says a = 1."""

    def first(self, pfn: int) -> int:
        if pfn and self.known(
            pfn,
            "x",  # why
        ):
            return 1

        # a remark
        self.count += 1
        return self.lost(pfn) & STOP

    def second(self, pfn: int) -> int:
        self.count += 1
        if pfn:
            self.count -= 1
            return 2
        return 3
'''


def changed(old: str, new: str, at: str = "") -> str:
    text = replaced(SOURCE, old, new, at)
    ast.parse(text)
    return text


@pytest.mark.parametrize(
    ("old", "new", "now"),
    [
        ('if pfn and self.known(pfn, "x"):\n', "if pfn:\n", "        if pfn:\n            return 1"),
        ('self.known(\n  pfn, "x")', "True", "        if pfn and True:\n"),
        ("    self.count += 1\n    return self.lost(pfn)", "    return self.lost(pfn)", "return self.lost(pfn) & STOP"),
        ("& STOP\n\n    def second", "| STOP\n\n    def second", "| STOP\n\n    def second"),
        (
            "        self.count -= 1\n        return 2\n",
            "        return 2\n",
            "        if pfn:\n            return 2\n",
        ),
        ("if pfn:\n", "if not pfn:\n", "        if not pfn:\n            self.count -= 1"),
    ],
)
def test_layout_plays_no_part(old: str, new: str, now: str) -> None:
    assert now in changed(old, new)


def test_what_follows_is_indented_as_the_place_is() -> None:
    for own in ("", "    "):
        text = changed(f"{own}self.count -= 1\n", f"{own}self.count = 0\n{own}self.lost(pfn)\n")
        assert "            self.count = 0\n            self.lost(pfn)\n            return 2\n" in text
    text = changed("self.count -= 1\n", "if self.count:\n    self.count = 0\n")
    assert "            if self.count:\n                self.count = 0\n            return 2\n" in text


def test_a_definition_tells_which_place_is_meant() -> None:
    with pytest.raises(FragmentError, match="stands 2 times"):
        changed("self.count += 1", "pass")
    text = changed("self.count += 1", "pass", "Scheme.second")
    assert text.count("self.count += 1") == 1 and text.index("self.count += 1") < text.index("pass")


@pytest.mark.parametrize(
    ("old", "at", "said"),
    [
        ("return 4", "", "stands 0 times"),
        ("return 2", "Scheme.first", "stands 0 times in Scheme.first"),
        ("return 2", "Scheme.third", "Scheme.third is defined 0 times"),
        ("count", "Scheme.second", "stands 2 times"),
        ("a = 1", "", "stands 0 times"),  # words of a docstring are none
        ("return 1 self", "", "stands 0 times"),  # where a statement ends, one ends
    ],
)
def test_what_stands_nowhere_or_twice_is_refused(old: str, at: str, said: str) -> None:
    with pytest.raises(FragmentError, match=said):
        changed(old, "pass", at)
