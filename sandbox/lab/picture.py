"""A picture of reverse mapping as a tree of plain text, 80 columns wide.

    frame 0x11 at c0011000: anonymous, mapped by 1 PTE
    └─ mapping: anon_vma c000f3e0 (8 bytes): lists 1 area; index 0x40001
       └─ vma c000d054 (84 bytes) of parent: 40000000-40004000, pgoff 0x40000
          └─ PTE c000e008 (8 bytes) of parent: 40001000, writable

    FIELD: KIND ADDRESS (SIZE) of OWNER: what it says

Members of one list (edges called NEXT) stand side by side. What nothing leads to stands at the left, below a line that
says so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from mmcore.rmap import FRAME, NEXT, Node, Picture
from sandbox.result import PageShown

WIDTH = 80
MOST = 16  # members of one list that are drawn; of a longer one a dozen
_SHOWN = 12
_LINES, _ASCII = ("├─ ", "└─ ", "│  ", "   "), ("|- ", "`- ", "|  ", "   ")


def tree(picture: Picture, names: Mapping[int, str], encoding: str = "utf-8") -> str:
    """The picture in lines, without a final newline. `names`: kernel address of an address space -> whose it is."""
    lines = _LINES if _can_show(_LINES, encoding) else _ASCII
    return "\n".join(_Tree(picture, names, lines).lines())


def shown(page: PageShown, encoding: str = "utf-8") -> str:
    """What `--picture` prints: which page it was and when, and its picture or the reason why there is none."""
    if page.picture is None:
        return f"picture     {page.wanted}: {page.reason}"
    return f"picture     {page.wanted}, {page.moment}\n" + tree(page.picture, page.names, encoding)


def _can_show(texts: tuple[str, ...], encoding: str) -> bool:
    try:
        "".join(texts).encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


class _Tree:
    def __init__(self, picture: Picture, names: Mapping[int, str], lines: tuple[str, ...]) -> None:
        self.picture = picture
        self.names = names
        self.branch, self.last, self.bar, self.blank = lines
        self.seen: set[int] = set()
        self.leads: dict[int, list[tuple[str, int]]] = {}
        for edge in picture.edges:
            self.leads.setdefault(edge.source, []).append((edge.label, edge.target))

    def lines(self) -> Iterator[str]:
        """The frame and all that it leads to, then the rest."""
        yield from self._node("", FRAME, "", "")
        if self.picture.note:
            yield from self._wrapped(f"({self.picture.note})", "", "")
        led = {edge.target for edge in self.picture.edges}
        for place in range(len(self.picture.nodes)):
            if place not in led and place != FRAME:
                for edge, member in self._members([("", place)]):
                    yield from self._node(edge, member, "", "")

    def _members(self, leads: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Each target, followed by the list it is the first of."""
        found: list[tuple[str, int]] = []
        for label, place in leads:
            met = {place}
            found.append((label, place))
            following = [place]
            while following:
                nexts = [p for label, p in self.leads.get(following.pop(), ()) if label == NEXT and p not in met]
                met.update(nexts)
                found += [(NEXT, p) for p in nexts]
                following += nexts
        return found

    def _node(self, edge: str, place: int, first: str, rest: str) -> Iterator[str]:
        """A node after `first`, which stands before its first line, and what it leads to; `rest` stands before all
        other lines."""
        text = (f"{edge}: " if edge else "") + describe(self.picture.nodes[place], self.names, self.picture.pfn)
        if place in self.seen:  # a ring, or two ways to one structure
            yield from self._wrapped(text + " (as above)", first, rest)
            return
        self.seen.add(place)
        leads = [(label, target) for label, target in self.leads.get(place, ()) if label != NEXT]
        members = self._members(leads)
        yield from self._wrapped(text, first, rest + (self.bar if members else self.blank))
        left_out = len(members) - _SHOWN if len(members) > MOST else 0
        kept = members[:_SHOWN] if left_out else members
        for k, (label, target) in enumerate(kept):
            end = k == len(kept) - 1 and not left_out
            yield from self._node(
                label, target, rest + (self.last if end else self.branch), rest + (self.blank if end else self.bar)
            )
        if left_out:
            yield f"{rest}{self.last}and {left_out} more"

    @staticmethod
    def _wrapped(text: str, first: str, rest: str) -> list[str]:
        return textwrap.wrap(
            text,
            max(WIDTH, len(rest) + 30),
            initial_indent=first,
            subsequent_indent=rest + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def describe(node: Node, names: Mapping[int, str], pfn: int) -> str:
    """One node in one line."""
    if node.kind == "frame":
        return f"frame {pfn:#x} at {node.address:08x}: {node.label}"
    text = node.kind
    if node.address:
        text += f" {node.address:08x}"
    if node.size:
        text += f" ({node.size} bytes)"
    if node.mm:
        text += f" of {names.get(node.mm, f'mm {node.mm:08x}')}"
    return f"{text}: {node.label}" if node.label else text
