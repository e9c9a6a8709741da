"""What a guest is told of high memory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox import toolchain
from tests.sandbox.box import Box

TELL = r"""
#include <stdio.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/syscall.h>
static void show(const char *path)
{
    static char text[8192];
    int fd = open(path, O_RDONLY), n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    close(fd);
    printf("--- %s\n%s", path, text);
}
static void set(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        puts("REFUSED");
    close(fd);
}
int main(void)
{
    unsigned info[16]; /* uptime, 3 loads, totalram, freeram, sharedram, bufferram, swap, free swap, procs, high ... */
    syscall(116, info);
    printf("%u %u %u %u %u\n", info[4], info[5], info[11], info[12], info[13]);
    show("/proc/meminfo");
    set("/proc/sys/vm/lower_zone_protection", "100\n");
    set("/proc/sys/vm/min_free_kbytes", "2000\n");
    show("/proc/zoneinfo");
    show("/proc/buddyinfo");
    return 0;
}
"""


@pytest.fixture
def teller(tmp_path: Path) -> Path:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    source = tmp_path / "tell.c"
    source.write_text(TELL)
    return toolchain.compile_c(source)


def rows(text: str) -> dict[str, int]:
    return {name: int(kb) for name, kb in re.findall(r"(?m)^(\w+): +(\d+) kB$", text)}


def told(program: Path, memory: int) -> tuple[Box, list[int], dict[str, int], str]:
    box = Box(memory=memory)
    assert box.run(program).status == 0
    first, rest = box.out.split("\n", 1)
    assert "REFUSED" not in rest
    return box, [int(word) for word in first.split()], rows(rest), rest


def test_the_zones_of_a_machine_of_16_gb(teller: Path) -> None:
    """RAM that 32 bits cannot count in bytes is counted in pages; HighTotal and LowTotal add up."""
    box, (total, free, high, high_free, unit), info, text = told(teller, 16 << 30)
    mem = box.mem
    assert unit == 4096 and total == mem.total_pages and high == mem.pages.zones[2].present_pages
    assert free - high_free < mem.low_pages and 0.99 * high < high_free < high
    assert info["MemTotal"] == info["HighTotal"] + info["LowTotal"] == mem.total_pages * 4
    assert info["HighTotal"] == high * 4 and info["MemFree"] == info["HighFree"] + info["LowFree"]
    assert [line.split()[3] for line in text.splitlines() if line.startswith("Node 0, zone")] == [
        "DMA",
        "Normal",
        "HighMem",
    ] * 2
    dma, normal, highmem = mem.pages.zones
    assert mem.pages.min_free_kbytes == 2000 and normal.pages_min == 500 * normal.present_pages // (896 << 8)
    assert normal.protection[2] == highmem.pages_low + normal.pages_low + 100 * highmem.pages_low
    assert f"protection: (0, {normal.protection[1]}, {normal.protection[2]})" in text
    assert dma.protection[0] == dma.pages_low


def test_a_machine_of_low_memory_only(teller: Path) -> None:
    _, (total, free, high, high_free, unit), info, text = told(teller, 64 << 20)
    assert unit == 1 and high == high_free == 0 < free < total
    assert info["HighTotal"] == info["HighFree"] == 0 and info["LowTotal"] == info["MemTotal"] == total >> 10
    assert "HighMem" not in text
