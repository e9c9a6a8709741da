"""The hash of final memory: the same bytes hash the same wherever they are, one other byte does not, and looking
changes nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sandbox import Config, Machine
from sandbox.kit.files import host_file, tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, RW
from sandbox.lab.compare import memory_difference
from sandbox.lab.memhash import MemoryRecorder, areas, memory_hash
from sandbox.result import MemoryImage
from tests.cli.conftest import ROOT
from tests.mmcore.box import AT, Box
from tests.sandbox.test_kernel_run import build  # noqa: F401

SCAN = f"{ROOT}/tests/mmcore/scan_scheme.py:ScanEverything"
PAGINGS = pytest.mark.parametrize("paging", ["pae", "2level"])


def image(box: Box, mm=None) -> MemoryImage:
    """What a recorder says of one address space, as if it ended now; checks that looking left no trace."""
    mem = box.mem
    mm = mm or box.mm
    before = traces(box, mm)
    recorder = MemoryRecorder(mem, SimpleNamespace(tasks={}), SimpleNamespace(root=SimpleNamespace(children={})))
    recorder.ended(SimpleNamespace(tgid=2, comm="prog", regs=[0] * 8), mm, "exit")
    found = recorder.image()
    assert traces(box, mm) == before
    return found


def traces(box: Box, mm):
    mem = box.mem
    frames = mem.frames
    return (
        mem.meters.as_dict(),
        mem.vmstat.as_dict(),
        mem.clock.now,
        frames.np_flags.tobytes(),
        frames.np_count.tobytes(),
        mm.mmap_cache,
        mem.ram.np64.tobytes(),
        dict(mem.swap.cache),
        mem.swap.find_total,
        mem.lowmem_report(),
    )


@PAGINGS
@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain"])
def test_a_page_hashes_the_same_wherever_it_is(scheme, paging):
    box = Box(scheme, paging)
    box.map(0, 64)
    box.put(*range(48))
    resident = image(box)
    assert len(resident.spaces[0].pages.numbers) == 48 * 4
    box.swap_out()
    assert box.out(0) and box.out(47)
    assert image(box) == resident
    box.mem.swap.swapin_readahead(box.mem.pgtables.pte_to_swp(box.pte(5)))
    assert box.mem.swap.cache
    assert image(box) == resident
    box.has(*range(48))
    assert image(box) == resident
    assert memory_hash(resident) == memory_hash(image(box))


def test_reading_what_was_never_written_does_not_show():
    box = Box("anon_vma")
    box.map(0, 8)
    box.put(3)
    before = image(box)
    box.load(box.mm, AT)
    box.store(box.mm, AT + 0x1000, 0)
    assert image(box) == before


@pytest.mark.parametrize("state", ["resident", "swapped"])
def test_one_word_shows_and_is_named(state):
    box = Box("anon_vma")
    box.map(0, 8)
    box.put(*range(8))
    before = image(box)
    if state == "resident":
        box.mem.ram.u8[(box.pfn(6) << 12) + 4095] ^= 1
    else:
        box.swap_out()
        slot, store = box.mem.pgtables.pte_to_swp(box.pte(6)), box.mem.swap.store
        page = bytearray(store.page(slot))
        page[4095] ^= 1
        store.write(slot, memoryview(page))
    after = image(box)
    assert memory_hash(before) != memory_hash(after)
    assert memory_difference(before, after) == (
        "memory of prog[2] at its exit: page 0x50006000 has other contents, in 50000000-50008000 rw-p"
    )


def test_a_page_that_became_zero_or_stopped_being_it():
    box = Box("anon_vma")
    box.map(0, 8)
    box.put(1)
    one = image(box)
    box.put(2)
    two = image(box)
    assert "page 0x50002000 is not zero" in memory_difference(one, two)
    assert "page 0x50002000 is zero" in memory_difference(two, one)


def test_a_page_that_may_not_be_read_counts_and_so_do_permissions():
    from mmcore.calls.mprotect import do_mprotect

    box = Box("anon_vma")
    box.map(0, 4)
    box.put(0, 1, 2, 3)
    before = image(box)
    do_mprotect(box.mem, box.mm, AT + 0x1000, 0x1000, PROT_NONE)
    after = image(box)
    assert before.spaces[0].pages == after.spaces[0].pages
    assert "area 50000000-50001000 rw-p instead of 50000000-50004000 rw-p" in memory_difference(before, after)


def test_where_like_areas_meet_does_not_show():
    """mremap brings a neighbour that pte_chain merges and anon_vma, which has two objects then, cannot."""
    seen = {}
    for scheme in ("pte_chain", "anon_vma"):
        box = Box(scheme)
        box.map(0, 2)
        box.map(8, 2)
        box.put(0, 1, 8, 9)
        box.mremap(8, 2, 2)
        seen[scheme] = (len(box.mm.vmas), image(box))
    assert seen["pte_chain"][0] == 1 and seen["anon_vma"][0] == 2
    assert seen["pte_chain"][1] == seen["anon_vma"][1]
    assert areas(box.mem, box.mm) == ["50000000-50004000 rw-p"]


@PAGINGS
def test_file_pages_hash_the_same_in_the_cache_and_out_of_it(paging):
    box = Box("anon_vma", paging)
    file = host_file(box.mem, [bytes([number + 1]) * 4096 for number in range(8)])
    box.map(0, 8, PROT_READ, MAP_PRIVATE | MAP_FIXED, file=file)
    untouched = image(box)
    assert len(untouched.spaces[0].pages.numbers) == 8 * 4
    for page in range(8):
        box.load(box.mm, AT + (page << 12))
    assert file.mapping.pages
    assert image(box) == untouched


def test_a_private_copy_shows_and_the_file_behind_it_not():
    box = Box("anon_vma")
    file = host_file(box.mem, [b"a" * 4096, b"b" * 4096])
    box.map(0, 2, RW, MAP_PRIVATE | MAP_FIXED, file=file)
    before = image(box)
    box.store(box.mm, AT + 0x1000, 7)
    assert "page 0x50001000 has other contents, in 50000000-50002000 rw-p /test offset 0x0" in memory_difference(
        before, image(box)
    )


def test_shared_pages_are_told_with_their_file_when_the_last_process_leaves():
    """Whether a child ends before or after another one writes is a matter of time, which no scheme can answer for."""
    box = Box("pte_chain")
    file = tmpfs_file(box.mem, 4)
    box.map(0, 4, RW, MAP_SHARED | MAP_FIXED, file=file)
    box.put(0)
    child = box.fork(box.mm)
    early = image(box, child)
    box.put(1)
    assert image(box, child) == early and not early.files
    box.exit(child)
    last = image(box)
    assert [file.name for file in last.files] == ["shared memory /test"]
    assert len(last.files[0].pages.numbers) == 2 * 4
    box.swap_out()
    box.swap_out()
    assert image(box) == last
    box.put(2)
    assert "file shared memory /test: the page at 0x2000 is not zero" in memory_difference(last, image(box))


def test_a_shared_entry_that_leads_to_a_wrong_frame_shows():
    box = Box("pte_chain")
    file = tmpfs_file(box.mem, 2)
    box.map(0, 2, RW, MAP_SHARED | MAP_FIXED, file=file)
    box.put(0, 1)
    before = image(box)
    ptes = box.mem.pgtables.ptes
    ptes[box.index(0)] = ptes[box.index(1)]
    assert "page 0x50000000 is not zero, in 50000000-50002000 rw-s /test" in memory_difference(before, image(box))


# --- whole runs


@pytest.mark.parametrize(
    "program",
    [["fork_cow", "900", "3", "300"], ["fork_tree", "8", "48", "60", "7"], ["shared_map"], ["mremap_pingpong"]],
    ids=lambda p: p[0],
)
def test_every_scheme_leaves_the_same_memory(program):
    hashes = {
        Machine(Config(memory=memory, scheme=scheme, stdin=b""))
        .run(program, capture=True, hash_memory=True)
        .memory_hash
        for scheme, memory in (("anon_vma", "64M"), ("anon_vma", "8M"), ("pte_chain", "8M"), (SCAN, "8M"))
    }
    assert len(hashes) == 1 and None not in hashes


def test_asking_changes_nothing():
    results = [
        Machine(Config(memory="8M", stdin=b"")).run(["fork_cow", "900", "3", "300"], capture=True, hash_memory=asked)
        for asked in (False, True)
    ]
    plain, hashed = (result.as_dict() for result in results)
    assert plain["vmstat"]["pswpin"] > 0
    assert plain.pop("memory_hash") is None and hashed.pop("memory_hash")
    for values in (plain, hashed):
        del values["wall_s"]
    assert plain == hashed


def test_exec_exit_and_what_still_runs(build):  # noqa: F811
    body = """
        if (argc > 1) return 0;
        if (!fork()) { char *args[] = { argv[0], "x", NULL }; execv("/proc/self/exe", args); _exit(9); }
        wait(NULL);
        if (!fork()) for (;;) pause();
        int f = open("/tmp/file", O_CREAT | O_WRONLY, 0644); write(f, "kept", 4); close(f);
        return 0;"""
    result = Machine(Config(stdin=b"")).run([str(build(body))], capture=True, hash_memory=True)
    memory = result.notes.memory
    assert [(space.pid, space.number, space.ended) for space in memory.spaces] == [
        (2, 1, "exit"),
        (3, 1, "exec"),
        (3, 2, "exit"),
        (4, 1, "end of the run"),
    ]
    assert any(file.name == "/tmp/file" and file.size == 4 for file in memory.files)


def test_a_run_that_was_cut_has_none(build):  # noqa: F811
    result = Machine(Config(stdin=b"", time_limit=0.4)).run(
        [str(build("for (;;); return 0;"))], capture=True, hash_memory=True
    )
    assert (result.ended, result.memory_hash) == ("time_limit", None)
