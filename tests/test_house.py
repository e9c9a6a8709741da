"""The rules that no linter measures: how many lines a function has, and that an exception says why it is one."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("sandbox", "mmcore", "rmap_plugins")
MOST_LINES = 60  # from `def` to the last line, docstring and comments included

LONGER = {
    "sandbox/kernel/loop.py Loop._user_mode": "HOT: dispatching calls in line saves 90 ns of each, see its docstring",
}
"""Functions that may be longer, and what that saves in nanoseconds."""


def _files() -> list[Path]:
    return sorted(path for room in PRODUCT for path in (ROOT / room).rglob("*.py"))


def _lengths(node: ast.AST, name: str = "") -> Iterator[tuple[str, int]]:
    """(dotted name, lines) of each function in `node`, those inside others too."""
    for child in ast.iter_child_nodes(node):
        inner = name
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = f"{name}.{child.name}" if name else child.name
            if not isinstance(child, ast.ClassDef):
                assert child.end_lineno is not None
                yield inner, child.end_lineno - child.lineno + 1
        yield from _lengths(child, inner)


@pytest.fixture(scope="module")
def lengths() -> dict[str, int]:
    """Lines by "file name"; a name defined twice in one place counts with its longest."""
    found: dict[str, int] = {}
    for path in _files():
        for name, lines in _lengths(ast.parse(path.read_text(encoding="utf-8"))):
            key = f"{path.relative_to(ROOT).as_posix()} {name}"
            found[key] = max(lines, found.get(key, 0))
    return found


def test_lengths_are_counted_from_def_to_the_last_line() -> None:
    source = "class C:\n    @property\n    def f(self):\n        def g():\n            return 1\n\n        return g\n"
    assert dict(_lengths(ast.parse(source))) == {"C.f": 5, "C.f.g": 2}


def test_no_function_is_longer_than_a_screen(lengths: dict[str, int]) -> None:
    assert len(lengths) > 2000, "the product was not found"
    long = {name: lines for name, lines in lengths.items() if lines > MOST_LINES}
    assert not set(long) - set(LONGER), {name: lines for name, lines in long.items() if name not in LONGER}
    assert not set(LONGER) - set(long), "exceptions that are not needed"


def test_every_exception_says_what_it_saves() -> None:
    assert all(re.search(r"\d ns\b", why) for why in LONGER.values())
    bare, named = [], 0
    for path in _files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = re.search(r"#\s*noqa\b(?::\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*)?(.*)", line)
            if found and ("C901" in found[0] or "PLR0915" in found[0] or ":" not in found[0]):
                named += 1
                if not re.search(r"\d ns\b", found[1]):
                    bare.append(f"{path.relative_to(ROOT)}:{number}")
    assert named >= len(LONGER), "exceptions were not found"
    assert not bare


def test_sections_have_one_sign() -> None:
    """`# --- words` stands above a group of functions; no other rule of dashes or stars."""
    seen, other = 0, []
    for path in sorted([*_files(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.match(r"\s*#+ ?([-=*~])\1", line):
                seen += 1
                if not re.fullmatch(r"\s*# --- \S.*[^-]", line):
                    other.append(f"{path.relative_to(ROOT)}:{number}")
    assert seen > 100, "the signs were not found"
    assert not other


def test_a_docstring_closes_where_it_should() -> None:
    """One paragraph closes on its last line; several close on a line of their own."""
    closed, wrong = {True: 0, False: 0}, []
    for path in _files():
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            text = ast.get_docstring(node, clean=False)
            if text is None or "\n" not in text:
                continue
            end = node.body[0].end_lineno
            assert end is not None
            alone = lines[end - 1].strip() == '"""'
            closed[alone] += 1
            if alone != ("\n\n" in text):
                wrong.append(f"{path.relative_to(ROOT)}:{end}")
    assert min(closed.values()) > 100, "the docstrings were not found"
    assert not wrong


def test_one_helper_makes_allocations_fail() -> None:
    """sandbox/kit/injection.py; a test of mremap forbids allocations for a while that begins and ends in two places."""
    files = [*_files(), *(ROOT / "tests").rglob("test_*.py")]
    own = [
        path.relative_to(ROOT).as_posix()
        for path in files
        if re.search(r"[.]inject = (?!None)", path.read_text(encoding="utf-8"))
    ]
    assert own == ["sandbox/kit/injection.py", "tests/mmcore/test_mremap.py"]


def test_prose_keeps_to_the_width_of_the_code() -> None:
    """In documents too no line is longer than 120 characters, but for tables and what stands between fences."""
    seen, long = 0, []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        fenced = False
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            fenced ^= line.startswith("```")
            if not fenced and not line.startswith("|"):
                seen += 1
                if len(line) > 120:
                    long.append(f"{path.relative_to(ROOT)}:{number}")
    assert seen > 1000, "the documents were not found"
    assert not long


def test_code_in_prose_has_one_backtick() -> None:
    """In docstrings and comments as in the documents."""
    single, double = 0, []
    for path in [*_files(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        source = path.read_text(encoding="utf-8")
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT or token.string.startswith(('"""', 'r"""')):
                single += token.string.count("`")
                if "`" * 2 in token.string:
                    double.append(f"{path.relative_to(ROOT)}:{token.start[0]}")
    assert single > 1000, "the prose was not found"
    assert not double
