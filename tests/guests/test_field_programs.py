"""The programs of field/ translate with the guest runtime, and what they needed of it answers as natively."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from tests.guests.native import run_native, why_not_native

FIELD = Path(__file__).with_name("field")

RUNTIME = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void)
{
    static const char *numbers[] = {"0.1", "-1e23", "2.2250738585072011e-308", "4.9e-324", "2e-324",
        "1.7976931348623159e308", "9007199254740993",
                                    "1e", ".", "-.5e-3x", "inf", "123456789012345678901234567890", "0x", "nan"};
    char line[64], word[8], *end;
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        union { double value; unsigned long long bits; } u = {.value = strtod(numbers[i], &end)};
        printf("%s: %016llx, %d taken\n", numbers[i], u.bits, (int)(end - numbers[i]));
    }
    char name[] = "/tmp/rmapbox-runtime";
    mkdir(name, 0700);
    snprintf(line, sizeof line, "%s/f", name);
    FILE *file = fopen(line, "w");
    fprintf(file, "cpu 12 0x1f 2.50 word\n7 -8");
    fclose(file);
    int a = 0, b = 0, c = 0, d = 0;
    double real = 0;
    file = fopen(line, "r");
    int n = fscanf(file, "cpu %d %i %lf %7s", &a, &b, &real, word);
    printf("%d: %d %d %d %s\n", n, a, b, (int)(real * 100), word);
    n = fscanf(file, "%d", &c);
    printf("%d %d, next %d\n", n, c, fgetc(file));
    n = fscanf(file, "%d", &d);
    printf("%d %d, then %d\n", n, d, fscanf(file, "%d", &d));
    fclose(file);
    DIR *directory = opendir(name);
    int entries = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        entries += entry->d_name[0] == '.' ? 1 : 100;
    printf("%d; %d\n", entries, closedir(directory));
    printf("%d %d\n", opendir("/nonexistent") == NULL, opendir(line) == NULL);
    unlink(line);
    rmdir(name);
    return 0;
}
"""


@pytest.mark.parametrize("name", sorted(path.stem for path in FIELD.glob("*.c")))
def test_translates(name: str) -> None:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    assert toolchain.compile_c(FIELD / f"{name}.c").stat().st_size


def test_numbers_and_directories_as_natively(compile_guest: Callable[..., Path]) -> None:
    program = compile_guest(RUNTIME, "runtime")
    result = Machine(Config(time_limit=60)).run([str(program)], capture=True)
    lines = result.stdout.decode().splitlines()
    assert result.exit_status == 0
    # IEEE 754, round to nearest even: a tie, the largest subnormal, the smallest, half of it, and one beyond the
    # largest number
    assert lines[:7] == [
        "0.1: 3fb999999999999a, 3 taken",
        "-1e23: c4b52d02c7e14af6, 5 taken",
        "2.2250738585072011e-308: 000fffffffffffff, 23 taken",
        "4.9e-324: 0000000000000001, 8 taken",
        "2e-324: 0000000000000000, 6 taken",
        "1.7976931348623159e308: 7ff0000000000000, 22 taken",
        "9007199254740993: 4340000000000000, 16 taken",
    ]
    assert lines[14:] == ["4: 12 31 250 word", "1 7, next 32", "1 -8, then -1", "102; 0", "1 1"]
    if why_not_native():
        pytest.skip(f"natively not asked: {why_not_native()}")
    assert run_native(program).stdout.decode().splitlines() == lines
