"""base: scan everything. A correct scheme, and a slow one: start here, and replace it part by part.

Origin      (whose idea it is, and when)
Idea        An anonymous page remembers the one virtual address it is mapped at; a walk asks every address space there
is whether the page is there.

    page.index --> address          walk: for each mm: is the page at that address?

Structures  none of its own: two words of struct page that are there anyway
Cost        walk O(address spaces). A page shared by two address spaces cannot have two addresses: mremap has to copy it
first.

Run it      rmapbox run fork_cow --pressure --rmap base.py:Base --audit full
Check it    rmapbox schemes check base.py:Base
The lines marked YOURS are the ones to replace; docs/writing-a-scheme.md says what each hook may count on.
"""

from __future__ import annotations

from typing import Any

from mmcore.rmap import Card, MachineFacts, Setup, WalkScheme


class Base(WalkScheme):
    # What `rmapbox schemes` shows. YOURS: all of it but the name.
    card = Card(
        name="base",
        title="one address per page, every address space asked",
        kernels="none",
        origin="the template of rmapbox",
        complexity="fork O(1) per page; walk O(address spaces); mremap copies shared pages",
        structures=(("page", "+4", "mapcount"),),
        options={},  # name: (default, meaning); read from self.options, set in the table [rmap.base] of rmapbox.toml
    )

    @classmethod
    def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        """Asked before boot. YOURS."""
        return Setup(page=4, file_index="prio_tree")

    def __init__(self, env, options):
        self._frames = env.frames
