r"""A piece of Python found in a file whatever its layout: by tokens, so that indentation, line breaks inside brackets,
comments, blank lines and trailing commas play no part, and a formatter or a move does not hide it.

    fragment  "if x and\n    f(a, b):  # why" file "        if x and f(\n            a,\n            b,\n        ):"
"""

from __future__ import annotations

import ast
import io
import token
import tokenize
from typing import NamedTuple

_LAYOUT = {token.NL, token.COMMENT, token.INDENT, token.DEDENT, token.ENDMARKER, token.TYPE_COMMENT}
_CLOSING = {")", "]", "}"}


class FragmentError(AssertionError):
    """A fragment stands nowhere in its file, or more than once."""


class _Piece(NamedTuple):
    text: str  # "" at the end of a statement
    start: tuple[int, int]  # line from 1, column
    end: tuple[int, int]


def _pieces(text: str, whole: bool) -> list[_Piece]:
    """The tokens of `text` that matter. A fragment (not `whole`) may begin and end anywhere."""
    lines = text.splitlines(keepends=True)
    if not whole:
        lines = [line.lstrip(" ") for line in lines]  # no indentation, so none that does not fit
    found: list[_Piece] = []
    try:
        for kind, string, start, end, _ in tokenize.generate_tokens(io.StringIO("".join(lines)).readline):
            if kind in _LAYOUT:
                continue
            if string in _CLOSING and found and found[-1].text == ",":
                found.pop()
            found.append(_Piece("" if kind == token.NEWLINE else string, start, end))
    except tokenize.TokenError:
        if whole:
            raise  # a fragment may leave brackets open
    if not whole and not text.endswith("\n") and found and not found[-1].text:
        found.pop()  # the tokenizer's own end of a line that has none
    return found


def _matches(source: list[_Piece], at: int, fragment: list[_Piece]) -> int:
    """Where in `source` the fragment ends (exclusive) when it begins at `at`; -1: it does not stand there."""
    for piece in fragment:
        here = source[at].text if at < len(source) else None
        if here == piece.text:
            at += 1
        elif piece.text:  # a line that ends in the fragment may go on in brackets here
            return -1
    return at


def _span(source: str, at: str) -> tuple[int, int]:
    """First and last line of the class or function `at` ("Class.method")."""
    node: ast.AST = ast.parse(source)
    for name in at.split("."):
        inner = [child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == name]
        if len(inner) != 1:
            raise FragmentError(f"{at} is defined {len(inner)} times")
        node = inner[0]
    assert isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.end_lineno is not None
    return node.lineno, node.end_lineno


def replaced(source: str, old: str, new: str, at: str = "") -> str:
    """`source` with the one place where the fragment `old` stands (inside the definition `at`, if given) taken by
    `new`, indented as that place is. Raises FragmentError unless there is exactly one."""
    pieces, fragment = _pieces(source, True), _pieces(old, False)
    first_line, last_line = _span(source, at) if at else (1, len(source))
    places = [
        (start, end)
        for start in range(len(pieces))
        if first_line <= pieces[start].start[0] <= last_line and (end := _matches(pieces, start, fragment)) > start
    ]
    if len(places) != 1:
        raise FragmentError(f"{old!r} stands {len(places)} times" + (f" in {at}" if at else ""))
    start, end = places[0]
    lines = source.splitlines(keepends=True)
    begins = [0]
    for line in lines:
        begins.append(begins[-1] + len(line))
    line, column = pieces[start].start
    head = begins[line - 1] + column
    last, last_column = pieces[end - 1].end
    tail = begins[last - 1] + last_column if pieces[end - 1].text else begins[last - 1] + pieces[end - 1].start[1]
    begins_line = not lines[line - 1][:column].strip()
    return source[:head] + _indented(old, new, column if begins_line else -1) + source[tail:]


def _indented(old: str, new: str, column: int) -> str:
    """`new` as it stands in place of `old`, whose first line begins at `column` of the file's; -1: in the midst of a
    line, and what follows is indented as it is. Line ends at its beginning and end are the file's own."""
    own = next((len(text) - len(text.lstrip(" ")) for text in old.splitlines() if text.strip()), 0)
    shift = column - own if column >= 0 else 0
    first, *rest = new.strip("\n").split("\n")
    moved = [
        " " * max(0, len(text) - len(text.lstrip(" ")) + shift) + text.lstrip(" ") if text else "" for text in rest
    ]
    return "\n".join([first.lstrip(" "), *moved])
