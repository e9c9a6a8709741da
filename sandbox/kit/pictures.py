"""One page of memory in the four moments of `docs/reverse-mapping.md`, drawn under any scheme; and the drawings of that
document made anew: `python -m sandbox.kit.pictures docs/reverse-mapping.md`.

A drawing stands in a fenced block below a line `<!-- drawn: SCHEME MOMENT -->`; SCHEME may carry options.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcore.areas.mm import Mm
from mmcore.calls.mremap import do_mremap
from sandbox.config import Config
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, RW, CpulessMachine
from sandbox.lab.picture import tree
from sandbox.schemes.registry import load_scheme
from sandbox.schemes.spec import parse_spec, with_options

if TYPE_CHECKING:
    from mmcore.rmap import RmapScheme

START, MOVED = 0x40000000, 0x48000000  # where the program maps its four pages, and where mremap puts them
PAGE = 0x1000  # the page looked at is the second
MOMENTS = ("born", "forked", "copied", "moved", "file")
_DRAWN = re.compile(r"(<!-- drawn: (\S+) (\w+) -->\n```\n)(.*?)(```\n)", re.DOTALL)


class Story:
    """A program, its child, and the page that both look at."""

    def __init__(self, scheme: type[RmapScheme], moment: str, **options: Any) -> None:
        """`moment`: "born" (the parent wrote to the page), and after that "forked"; then either "copied" (the child
        wrote to it) or "moved" (the child moved it). "file": the page is one of a shared file, forked."""
        m = self.machine = CpulessMachine(scheme, memory=8 << 20, **options)
        self.parent = m.new_mm()
        self.child: Mm | None = None
        self.at = START + PAGE  # the child's address of the page
        if moment == "file":
            m.mmap(self.parent, 4, RW, MAP_FIXED | MAP_SHARED, START, tmpfs_file(m.mem, 4))
        else:
            m.mmap(self.parent, 4, RW, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, START)
        m.store(self.parent, START + PAGE, 1)
        if moment == "born":
            return
        self.child = m.fork(self.parent)
        if moment == "copied":
            m.store(self.child, self.at, 2)
        elif moment == "moved":
            do_mremap(m.mem, self.child, START, 4 * PAGE, 4 * PAGE, 3, MOVED)
            self.at = MOVED + PAGE
        elif moment == "file":
            m.load(self.child, self.at)

    def frames(self) -> list[int]:
        """The frames that parent and child see: two where they differ."""
        places = [(self.parent, START + PAGE), *([(self.child, self.at)] if self.child is not None else [])]
        tables = self.machine.mem.pgtables
        entries = [tables.ptes[tables.pte_index(mm.pgd, address)] for mm, address in places]
        return list(dict.fromkeys(entry >> 12 & tables.PFN_MASK for entry in entries))

    def drawn(self) -> str:
        """Their pictures as text."""
        names = {self.parent.addr: "parent"}
        if self.child is not None:
            names[self.child.addr] = "child"
        return "\n".join(tree(self.machine.mem.rmap.picture(pfn), names) for pfn in self.frames())


def story(spec: str, moment: str) -> Story:
    """`spec`: a scheme with its options, as `--rmap` has it. Raises `ConfigError` and `PluginError`."""
    name, given = parse_spec(spec)
    config = with_options(Config(scheme=name), spec, given)
    return Story(load_scheme(name), moment, **config.scheme_options)


def redrawn(text: str) -> str:
    """A document with all its drawings made anew."""
    return _DRAWN.sub(lambda found: f"{found[1]}{story(found[2], found[3]).drawn()}\n{found[5]}", text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        document = Path(name)
        document.write_text(redrawn(document.read_text()))
