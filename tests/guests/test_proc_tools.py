"""Tools of today, as Debian builds them, read /proc here: none refuses a line, and what they make of it has the form
they give it natively."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

import pytest

from sandbox import Config, Machine
from tests.guests.cells import native_works
from tests.guests.debian import system

PACKAGES = (
    "libc6 procps libproc2-0 libncursesw6 libtinfo6 ncurses-base libsystemd0 libcap2 libgcrypt20 liblzma5 libzstd1 "
    "liblz4-1 libgpg-error0 libgcc-s1 toybox "
    "libselinux1 libpcre2-8-0 libssl3 libcrypt1 zlib1g"
).split()
# A line that has to be among what each prints. Numbers stand for any, names for themselves. (ps takes what began in
# this tick for 130 years old.)
TOOLS = {
    "/bin/ps aux": r"\S+ +\d+ +[\d.]+ +[\d.]+ +\d+ +\d+ \S+ +R\S* +\S+ +[\d:]+ /bin/ps aux",
    "/bin/ps -eo "
    "pid,ppid,ni,pri,vsz,rss,wchan:10,stat,etime,time,nlwp,comm": r" *\d+ +\d+ +-?\d+ +\d+ +\d+ +\d+ \S+ +R\S* +\S+ "
    r"+[\d:]+ +1 ps",
    "/usr/bin/top -b -n1": r"MiB Mem : +[\d.]+ total, +[\d.]+ free, +[\d.]+ used, +[\d.]+ buff/cache *",
    "/usr/bin/vmstat": r"( +\d+){17}",
    "/usr/bin/vmstat -a": r"( +\d+){17}",
    "/usr/bin/vmstat -s": r" +\d+ idle cpu ticks",
    "/usr/bin/vmstat -m": r"vm_area_struct( +\d+){4}",
    "/usr/bin/vmstat -d": r"hda( +\d+){10}",
    "/usr/bin/free": r"Mem: ( +\d+){6}",
    "/usr/bin/uptime": r" [\d:]+ up +.*, +load average: [\d.]+, [\d.]+, [\d.]+",
    "/usr/bin/w": r"USER +TTY +FROM +LOGIN@ +IDLE +JCPU +PCPU WHAT",
    "/usr/bin/pmap -x 2": r"[0-9a-f]+ +\d+ +\d+ +\d+ r-x-- pmap",
    "/usr/bin/pmap -XX 2": r".*\bReferenced\b.*\bSwapPss\b.*\bLocked\b.*VmFlags *Mapping",
    "/usr/bin/slabtop -o": r" +\d+ +\d+ +\d+% +[\d.]+K +\d+ +\d+ +\d+K vm_area_struct *",
    "/sbin/sysctl -a": r"fs\.pipe-user-pages-soft = 16384",
    "/bin/toybox vmstat": r"( +\d+){16}",
    "/bin/toybox ps -A": r" +\d+ \S+ +[\d:]+ toybox *",
    "/bin/toybox top -b -n 1": r" +\d+ root +\d+ +0 +\S+ +\S+ +\S+ R +[\d.]+ +[\d.]+ +[\d:.]+ toybox top.*",
    "/bin/toybox free": r"Mem: ( +\d+){5}",
    "/bin/toybox uptime": r" [\d:]+ up .*load average: [\d.]+, [\d.]+, [\d.]+",
}
# Lists every user sees of the whole host, or what the host may keep from us: natively not asked.
NOT_NATIVELY = (
    "/usr/bin/vmstat -m",
    "/usr/bin/vmstat -d",
    "/usr/bin/pmap",
    "/usr/bin/slabtop",
    "/sbin/sysctl",
    "/usr/bin/w",
    "/bin/toybox ps",
    "/bin/toybox top",
    "/bin/toybox uptime",
    "/usr/bin/uptime",
)


@functools.cache
def tree() -> Path:
    if not native_works():
        pytest.skip("this host cannot run i386 programs")
    root = system("tools-1", *PACKAGES)
    if isinstance(root, str):
        pytest.skip(root)
    return root


@pytest.mark.parametrize("command", TOOLS)
def test_reads_what_it_finds(command: str) -> None:
    root, words = tree(), command.split()
    config = Config(
        mounts=(f"{root / 'lib'}:/lib", f"{root / 'usr'}:/usr"),
        env={"PATH": "/bin:/usr/bin", "TERM": "linux", "LC_ALL": "C", "COLUMNS": "160"},
        stdin=b"",
        time_limit=120,
        audit="end",
    )
    result = Machine(config).run([str(root / words[0].lstrip("/")), *words[1:]], capture=True)
    assert result.exit_status == 0 and not result.stderr, (result.stdout, result.stderr)
    lines = result.stdout.decode().splitlines()
    assert [line for line in lines if re.fullmatch(TOOLS[command], line)], lines
    if not command.startswith(NOT_NATIVELY):
        assert [line for line in natively(root, words) if re.fullmatch(TOOLS[command], line)]


def natively(root: Path, words: list[str]) -> list[str]:
    """The same tool of the same tree reads the host's /proc, in a mount namespace of its own."""
    (root / "proc").mkdir(exist_ok=True)
    script = 'mount --rbind /proc "$1/proc" && exec chroot "$@"'
    try:
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", script, "sh", str(root), *words],
            capture_output=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "linux", "LC_ALL": "C", "COLUMNS": "160"},
        )
    except FileNotFoundError:
        pytest.skip("this host has no unshare (util-linux)")
    if b"unshare" in done.stderr or b"mount:" in done.stderr:
        pytest.skip(
            f"no private mount namespace for a native run: {done.stderr.decode(errors='replace').splitlines()[0]}"
        )
    return done.stdout.decode().splitlines()


def test_disk_as_it_is_counted() -> None:
    """What vmstat counts as paged in and out is what the disk moved."""
    from tests.guests.test_proc import program

    script = Config(memory="8M", swap="64M", stdin=b"", time_limit=60)
    result = Machine(script).run([str(program("diskstats"))], capture=True)
    before, name, numbers, after = result.stdout.decode().split("|")
    count = [int(n) for n in numbers.split()]
    assert name == "hda" and len(count) == 17 and result.exit_status == 0
    (
        reads,
        read_merged,
        read_sectors,
        read_ms,
        writes,
        write_merged,
        write_sectors,
        write_ms,
        under_way,
        busy_ms,
        all_ms,
    ) = count[:11]
    assert reads and writes and read_merged and write_merged
    slack = 8 * 31 * under_way  # counted as paged when queued, as the disk's when done
    for low, sectors, high in zip(map(int, before.split()), (read_sectors, write_sectors), map(int, after.split())):
        assert 2 * low - slack <= sectors <= 2 * high
    assert 0 < busy_ms <= all_ms + 1 and 0 <= all_ms - read_ms - write_ms <= 1


SIZED = {
    "/usr/bin/free -k": r"Mem: +(\d+) +\d+ +\d+ +\d+ +\d+ +\d+",
    "/usr/bin/free -lk": r"High: +(\d+) +\d+ +\d+",
    "/usr/bin/vmstat -s": r" +(\d+) K total memory",
    "/usr/bin/top -b -n1 -E k": r"KiB Mem : +(\d+)(?:\.\d+)? total,.*",
    "/bin/toybox free": r"Mem: +(\d+)( +\d+){4}",
}


@pytest.mark.parametrize("memory", ["256M", "16G", "64G"])
@pytest.mark.parametrize("command", SIZED)
def test_knows_the_size_of_the_machine(command: str, memory: str) -> None:
    """Memory above 4 GB, and what of it is high, is told as the machine has it."""
    root, words = tree(), command.split()
    config = Config(
        memory=memory,
        mounts=(f"{root / 'lib'}:/lib", f"{root / 'usr'}:/usr"),
        env={"PATH": "/bin:/usr/bin", "TERM": "linux", "LC_ALL": "C", "COLUMNS": "160"},
        stdin=b"",
        time_limit=120,
        audit="end",
    )
    result = Machine(config).run([str(root / words[0].lstrip("/")), *words[1:]], capture=True)
    assert result.exit_status == 0 and not result.stderr, (result.stdout, result.stderr)
    lines = result.stdout.decode().splitlines()
    (told,) = [int(match[1]) for line in lines if (match := re.fullmatch(SIZED[command], line))]
    boot = sum(result.lowmem.owners[name].bytes for name in ("kernel_image", "mem_map"))
    high = result.highmem.total if result.highmem is not None else 0
    expected = high if "High" in SIZED[command] else result.lowmem.total + high - boot
    if words[0] == "/bin/toybox":  # in bytes
        told >>= 10
    assert abs(told - (expected >> 10)) <= expected >> 20, lines
