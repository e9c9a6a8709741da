"""The first screen of `compare`: answers computed from the results, and lines that break between words."""

import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import termios

import pytest

from sandbox.lab.compare_head import answers
from sandbox.lab.compare_table import print_table, quotient, rows
from sandbox.lab.console import wrapped
from sandbox.schemes.registry import load_scheme
from tests.cli.conftest import COMMAND
from tests.cli.test_lab import make_result


def run(memory, reclaimed, **meters):
    result = make_result()
    result.lowmem.scheme = memory
    result.meters.update(meters)
    result.vmstat["pgsteal_dma"] = reclaimed
    return result


def made():
    return [
        run(
            {"mem_map": 4096, "pte_chain": 8192},
            100,
            candidates=300,
            file_candidates=100,
            misses=0,
            nodes=50,
            vma_lookup_nodes=50,
            forks=4,
            fork_links=400,
            fork_allocations=8,
            links=1000,
        ),
        run(
            {"mem_map": 4096, "vm_area_struct": 512},
            50,
            candidates=100,
            misses=0,
            nodes=0,
            forks=4,
            fork_links=8,
            fork_allocations=0,
            links=9,
        ),
    ]


def test_the_answers_are_those_of_the_meters():
    lines = answers(["one", "the_other"], made())
    assert lines[1:3] == [
        "  one        12.0 kB: pte_chain 8.0, mem_map 4.0",
        "  the_other  4.5 kB, -7.5 kB, 0.38x: mem_map 4.0, vm_area_struct 0.5",
    ]
    assert lines[3:6] == [
        "work per page reclaimed",
        "  one        4.00 candidates, 1.00 nodes",
        "  the_other  2.00 candidates (0.50x), 0.00 nodes (0x)",
    ]
    assert lines[6:9] == [
        "work per fork",
        "  one        100.00 entries made, 2.00 objects allocated",
        "  the_other  2.00 entries made (1/50), 0.00 objects allocated (0x)",
    ]
    # nodes: (100 + 1) / (0 + 1) = 101; entries made: (1000 + 1) / (9 + 1) = 100.1
    assert lines[9:] == [
        "differed most: nodes, 100 under one and 0 under the_other, by the meter nodes + file_nodes + vma_lookup_nodes"
    ]


def test_nothing_that_did_not_happen_is_told():
    lines = answers(["one", "two"], [make_result(meters={}), make_result(meters={})])
    assert (
        not any(line.startswith(("work per fork", "work per page")) for line in lines)
        and lines[-1] == "no meter of a scheme's work differed"
    )


@pytest.mark.parametrize(
    "ratio, text", [(0, "0x"), (6e-5, "1/16667"), (0.004, "1/250"), (0.1, "0.10x"), (1, "1.00x"), (250.4, "250x")]
)
def test_ratios_can_be_read(ratio, text):
    assert quotient(ratio) == text


def test_a_difference_stands_beside_each_ratio_and_words_are_explained():
    out = io.StringIO()
    print_table(rows(made()), ["one", "the_other"], out)
    links = next(line for line in out.getvalue().splitlines() if line.strip().startswith("links") and "1000" in line)
    assert links.split() == ["links", "1000", "9", "-991", "1/111"]
    assert out.getvalue().rstrip().splitlines()[-1].strip() and "nodes: what a search goes through" in out.getvalue()


def test_a_table_has_no_rows_of_schemes_that_are_not_in_it():
    results = [run({}, 1), run({}, 1), run({}, 1), run({}, 1, merges_refused=77)]
    out = io.StringIO()
    print_table(rows(results), ["a", "b", "c", "d"], out)
    assert out.getvalue().count("merges refused") == 1 and out.getvalue().count("virtual, ms") == 2


@pytest.mark.parametrize("name", ["pte_chain", "anon_vma", "anonmm", "virtual_scan"])
def test_what_a_scheme_takes_is_its_layout_by_objects_and_its_own_caches(rmapbox, tmp_path, name):
    assert rmapbox("run", "--quiet", "--json", "r.json", "--rmap", name, "--memory", "8M", "fork_cow").status == 0
    low = json.loads((tmp_path / "r.json").read_text())["lowmem"]
    base = {"vm_area_struct": 64, "mm_struct": 448}
    want = {}
    for structure, size in base.items():
        owner = low["owners"][f"slab:{structure}"]
        want[structure] = owner["peak_objects"] * (owner["object_size"] - size)
    sizes = {"pte_chain": 4, "anon_vma": 4, "anonmm": 4, "virtual_scan": 0}
    want["mem_map"] = (8 << 20 >> 12) * sizes[name]
    found = low["scheme"]
    assert {key: found.get(key, 0) for key in want} == want
    own = {key: size for key, size in found.items() if key not in (*want, "inodes")}
    assert all(size == low["owners"][f"slab:{key}"]["peak_bytes"] for key, size in own.items())
    assert set(own) <= {row[0] for row in load_scheme(name).card.structures} and bool(own) == (name != "virtual_scan")


def test_lists_beside_trees_are_told(rmapbox):
    said = "file areas  list under partial_objrmap; prio_tree under anon_vma"
    assert said in rmapbox("compare", "hello", "--rmap", "partial_objrmap,anon_vma").out
    assert "file areas" not in rmapbox("compare", "hello", "--rmap", "pte_chain,anon_vma").out


def test_lines_break_between_words(monkeypatch):
    stream = io.StringIO()
    line = "pressure    " + "several words of a-hyphenated text " * 5
    assert wrapped([line], stream) == [line]
    stream.isatty = lambda: True
    monkeypatch.setenv("COLUMNS", "80")
    found = wrapped([line], stream)
    assert len(found) > 1 and max(map(len, found)) <= 80 and " ".join(" ".join(found).split()) == " ".join(line.split())
    assert all(each.startswith(" " * 12) for each in found[1:])


@pytest.mark.parametrize(
    "words", [["compare", "hello", "--rmap", "pte_chain:cache_line=64,anon_vma_chain:era=2.6.34"], ["run", "hello"]]
)
def test_nothing_is_broken_at_80_columns(environment, tmp_path, words):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))
    env = {key: value for key, value in environment.items() if key not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [*COMMAND, *words],
        cwd=tmp_path,
        env={**env, "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = bytearray()
    try:
        while chunk := os.read(master, 4096):
            shown += chunk
    except OSError:
        pass  # EIO: the other side has closed
    os.close(master)
    assert process.wait(60) == 0
    assert max(len(line) for line in shown.decode().splitlines()) <= 80, shown.decode()
