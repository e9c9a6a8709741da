"""Faults in rmap_plugins/partial_objrmap.py; what it has from pte_chain is held there. Numbers in brackets:
docs/bug-classes.md."""

from __future__ import annotations

from typing import Any

from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_SHARED, CpulessMachine
from tests.mutations.runner import Mutant

MODULE = "rmap_plugins.partial_objrmap"
_TREE = (("i_mmap", "prio_tree"),)

MUTANTS = [
    Mutant("file pages get chains too", "    add_file = RmapScheme.add_file\n", ""),
    Mutant(
        "a file page's fault reserves a node",
        '        if operation == "file_fault":\n            return None\n',
        "",
        costs=True,
    ),
    Mutant(
        "an anonymous page's fault reserves nothing",
        '        if operation == "file_fault":',
        '        if operation != "fork" and operation != "move":',
    ),
    Mutant(
        "fork reserves nothing (3)",
        "            if not len(pfns):\n                return None\n",
        "            return None\n",
    ),
    Mutant(
        "fork enters file pages",
        "        if anon.all():\n            super().dup",
        "        if anon.any():\n            super().dup",
    ),
    Mutant(
        "fork forgets ranges that are not all anonymous",
        "            super().dup(src, dst, pfns[anon], src_ptes[anon], dst_ptes[anon], token)",
        "            pass",
    ),
    Mutant(
        "fork forgets ranges that are all anonymous",
        "            super().dup(src, dst, pfns, src_ptes, dst_ptes, token)\n        elif",
        "            pass\n        elif",
    ),
    Mutant(
        "fork enters the wrong PTEs of a mixed range",
        "pfns[anon], src_ptes[anon], dst_ptes[anon], token)",
        "pfns[anon], src_ptes[anon], dst_ptes[: anon.sum()], token)",
        at="PartialObjrmap.dup",
    ),
    Mutant(
        "fork enters the parent's PTEs of a mixed range",
        "pfns[anon], src_ptes[anon], dst_ptes[anon], token)",
        "pfns[anon], src_ptes[anon], src_ptes[anon], token)",
        at="PartialObjrmap.dup",
    ),
    Mutant(
        "mremap forgets anonymous pages",
        "        if anon.any():\n            super().move(",
        "        if not anon.any():\n            super().move(",
    ),
    Mutant(
        "mremap forgets mixed ranges",
        "        if anon.any():\n            super().move(",
        "        if anon.all():\n            super().move(",
    ),
    Mutant(
        "mremap enters file pages",
        "            super().move(src, dst, delta, pfns[anon], src_ptes[anon], dst_ptes[anon], token)",
        "            super().move(src, dst, delta, pfns, src_ptes, dst_ptes, token)",
    ),
    Mutant(
        "mremap takes the wrong PTEs of a mixed range",
        "            super().move(src, dst, delta, pfns[anon], src_ptes[anon], dst_ptes[anon], token)",
        "            super().move(src, dst, delta, pfns[anon], src_ptes[anon], dst_ptes[: anon.sum()], token)",
    ),
    Mutant(
        "what is anonymous and what is not are taken for each other",
        "        return (self._frames.np_flags[pfns] & np.uint32(PG_ANON)) != 0",
        "        return (self._frames.np_flags[pfns] & np.uint32(PG_ANON)) == 0",
    ),
    Mutant("pages of files are looked for in their chains", ", files=False)", ")"),
    Mutant(
        "the tree is a list",
        '        index = i_mmap_option(cls.card.name, options, "list")',
        '        index = "list"',
        _TREE,
        costs=True,
    ),
    Mutant(
        "the tree's nodes have no room in the areas",
        "replace(chains, vma=vma, address_space=address_space, ",
        "replace(chains, ",
        _TREE,
        costs=True,
    ),
    Mutant(
        "a page's word has no room",
        "replace(chains, vma=vma",
        "replace(chains, page=0, vma=vma",
        costs=True,
    ),
]

SURVIVORS: dict[str, str] = {}


def counts(kind: type, options: dict[str, Any]) -> None:
    """What is nowhere wrong and costs: nodes for file pages, areas looked at in vain; and what the structures take."""
    m = CpulessMachine(kind, **options)
    mem = m.mem
    tree = options.get("i_mmap") == "prio_tree"
    setup = mem.setup
    assert (setup.page, setup.vma, setup.address_space) == (4, 8 * tree, 4 * tree), setup
    mm = m.new_mm()
    file = tmpfs_file(mem, 24)
    places = [m.mmap(mm, 1, flags=MAP_SHARED, file=file, pgoff=k) for k in range(24)]
    for at in places:
        m.store(mm, at, 1)
    assert mem.meters.allocations == 0, "a file page's fault takes a node"
    before = mem.meters.file_nodes
    for at in places:
        mem.rmap.page_referenced(m.access(mm, at, False) >> 12)
    looked_at = mem.meters.file_nodes - before
    assert (looked_at < 200) if tree else (looked_at == 24 * 25 // 2), (
        f"{looked_at} entries are looked at for 24 pages of 24 areas"
    )
