"""The reports: pure functions of a result."""

import io
import re
import signal

import pytest

from mmcore.errors import ConfigError
from mmcore.stats import Meters, VmStat
from sandbox.config import Config
from sandbox.lab.crash import crash_report
from sandbox.lab.lowmem import print_lowmem, rows
from sandbox.lab.summary import how_it_ended, summary
from sandbox.result import Area, AuditResult, Crash, LowMem, Notes, Owner, Result, Snapshot, TaskResult, read_result
from sandbox.status import Sample, StatusLine, status_line

KEYS = [
    "exit_status",
    "scheme",
    "config",
    "virtual_ns",
    "wall_s",
    "ended",
    "vmstat",
    "meters",
    "lowmem",
    "tasks",
    "audit",
    "event_hash",
    "walk_lengths",
    "memory_hash",
    "oom",
    "highmem",
]


def make_result(scheme="anon_vma", user=10, **changes):
    owners = {
        "user_pages": Owner(user * 4096, 50 * 4096),
        "anon_vma": Owner(4096, 8192, object_size=12, objects=3, peak_objects=300, slabs=1),
    }
    peak = {
        "user_pages": Owner(50 * 4096, 50 * 4096),
        "anon_vma": Owner(8192, 8192, object_size=12, objects=300, peak_objects=300, slabs=2),
    }
    total = 100 * 4096
    lowmem = LowMem(total, total - (user + 1) * 4096, total - 52 * 4096, owners, Snapshot(total - 52 * 4096, peak))
    vmstat, meters = VmStat(), Meters()
    vmstat.pgfault, vmstat.pgmajfault, vmstat.pswpout, vmstat.pgsteal_dma = 1234, 7, 42, 99
    meters.walks, meters.candidates, meters.hits, meters.misses, meters.cow = 11, 22, 15, 7, 33
    values = dict(
        exit_status=0,
        scheme=scheme,
        config=Config().as_dict(),
        virtual_ns=1_500_000_000,
        wall_s=0.25,
        ended="exited",
        vmstat=vmstat.as_dict(),
        meters=meters.as_dict(),
        lowmem=lowmem,
        tasks=[TaskResult(1, "hello", 0, 40 << 10)],
        audit=AuditResult(),
        event_hash="ab" * 16,
    )
    return Result(**{**values, **changes})


def test_the_json_has_the_documented_keys_and_reads_back(tmp_path):
    result = make_result(notes=Notes(pressure="only here"))
    assert list(result.as_dict()) == KEYS
    path = tmp_path / "a.json"
    path.write_bytes(result.to_json())
    again = read_result(str(path))
    assert again.as_dict() == result.as_dict()
    assert b"only here" not in path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\0\1"])
def test_other_files_are_no_results(tmp_path, content):
    path = tmp_path / "b.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a result"):
        read_result(str(path))


def test_the_summary_of_a_scheme_without_walks_tells_its_scans():
    meters = Meters()
    (
        meters.scans,
        meters.scan_unmapped,
        meters.scan_young,
        meters.mms_visited,
        meters.vmas_visited,
        meters.ptes_probed,
    ) = 5, 60, 7, 8, 9, 400
    text = summary(make_result(meters=meters.as_dict()))
    assert (
        "5 of address spaces: 60 PTEs taken away, 7 young or locked; 9 areas, 8 address spaces, 400 PTEs looked at"
        in text
    )
    assert "walks" not in text and "candidates" not in text


def test_the_summary_says_what_happened():
    text = summary(make_result())
    for words in (
        "exited, status 0",
        "1.500 s virtual",
        "1234: 7 major",
        "33 copies on write",
        "99 pages reclaimed",
        "42 swapped out",
        "11 by the scheme: 22 candidates, 15 hits, 7 misses",
        "least free 192 kB of 400 kB",
        "user_pages 200 kB",
        "free 356 kB",
    ):
        assert words in text, words
    assert 8 <= len(text.splitlines()) <= 14


def test_the_summary_names_what_is_out_of_the_ordinary():
    notes = Notes(
        detail="task 1 waits for pipe", oom_kills=["killed 3 (eater)"], unknown_syscalls={"bpf": 2}, pressure="P"
    )
    text = summary(make_result(ended="deadlock", notes=notes))
    for words in ("no task can ever run", "waits for pipe", "killed 3 (eater)", "bpf x2", "pressure    P"):
        assert words in text


def test_how_a_signal_is_told():
    assert (
        how_it_ended(make_result(ended="signalled", exit_status=139, notes=Notes(signal=11)))
        == "killed by SIGSEGV, status 139"
    )


def test_each_column_of_the_table_adds_up():
    results = [make_result(), make_result("pte_chain", user=30)]
    table = dict(rows(results))
    for run in range(2):
        for moment in range(2):
            parts = sum(cells[run][moment] for name, cells in table.items() if name != "total")
            assert parts == table["total"][run][moment]


def test_the_table_as_text():
    out = io.StringIO()
    print_lowmem(
        [make_result(), make_result("pte_chain", user=30), make_result("pte_chain")], ["a", "b", "c"], file=out
    )
    text = out.getvalue()
    assert "anon_vma" in text and "pte_chain (b)" in text and "pte_chain (c)" in text
    assert re.search(r"user_pages\W+200\W+40\W+200\W+120\W+200\W+40\b", text)
    assert re.search(r"anon_vma\W+12\W+300\W+8\b", text)


AREAS = [
    Area(0x8048000, 0x8049000, "r-xp", "/bin/x"),
    Area(0x804A000, 0x804B000, "rw-p", ""),
    Area(0xBFFE0000, 0xC0000000, "rw-p", "[stack]"),
]


def crash(**changes):
    registers = [0] * 16
    registers[4], registers[8] = 0xBFFFF000, 0x8048010
    values = dict(
        pid=1,
        comm="x",
        signal=int(signal.SIGSEGV),
        code=1,
        address=0x10,
        registers=registers,
        code_bytes=bytes.fromhex("8b0510000000 c3"),
        areas=AREAS,
    )
    return crash_report(Crash(**{**values, **changes}))


def test_the_crash_report():
    text = crash()
    assert "x[1] killed by SIGSEGV: nothing is mapped at the address, address 0x00000010" in text
    assert "=> 08048010" in text and "mov eax, dword ptr [0x10]" in text
    assert re.search(r"around address 00000010:\n +08048000-08049000 r-xp /bin/x", text)
    assert re.search(r"around eip 08048010:\n +> 08048000", text) or text.count("08048000-08049000") == 1
    assert "[stack]" in text and "esp bffff000" in text


def test_a_jump_to_nowhere_has_no_disassembly():
    assert "not readable" in crash(code_bytes=b"")


def test_bytes_that_are_no_instruction():
    assert "(not an instruction)" in crash(code_bytes=b"\xff\xff\xff\xff", signal=int(signal.SIGILL), code=2)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_status_line_keeps_away_from_the_guests_output():
    terminal = Terminal()
    line = StatusLine(lambda: Sample(0, 1, 0, 4096, 0), terminal)
    line._draw(1.0)
    line.around(lambda data: terminal.write(data.decode()), b"prompt> ")
    line._draw(1.0)
    text = terminal.getvalue()
    assert text.endswith("\r\x1b[Kprompt> ")
    line.around(lambda data: terminal.write(data.decode()), b"\n")
    line._draw(1.0)
    assert "faults/s" in terminal.getvalue().rpartition("\n")[2]


def test_the_status_line_shows_the_five_figures():
    text = status_line(Sample(2_500_000_000, 3, 100, 8 << 10, 4 << 10), 1500.0)
    assert [float(x) for x in re.findall(r"[\d.]+", text)] == [2.5, 3, 1500, 8, 4]
