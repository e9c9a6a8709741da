"""The runtime's fscanf and strtod: numbers with a point, and files read by format, as other C libraries do it."""

from __future__ import annotations

import math
import random
import struct

STRTOD = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void)
{
    static char line[2000];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        unsigned words[2];
        char *end;
        double value = strtod(line, &end), scanned = 0;
        memcpy(words, &value, sizeof words);
        printf("%d %08x%08x %d", (int)(end - line), words[1], words[0], sscanf(line, "%lf", &scanned));
        printf(" %d\n", !memcmp(&value, &scanned, sizeof value));
    }
    return 0;
}
"""
FSCANF = r"""
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(void)
{
    int ends[2], a, b, n;
    unsigned long long big;
    float single;
    double twice;
    char word[8], two[2];
    assert(!pipe(ends) && write(ends[1], "cpu  12 18446744073709551615 x\nkey=v 1.5 2.25e2 0x1f rest7", 58) == 58);
    FILE *file = fdopen(ends[0], "r");
    /* its writing end stays open: to read more than the format needs would be to wait for ever */
    assert(fscanf(file, "cpu %d %llu%n", &a, &big, &n) == 2 && a == 12 && big == ~0ULL && n == 28);
    assert(fscanf(file, "%d", &b) == 0 && fscanf(file, "%7s", word) == 1 && !strcmp(word, "x"));
    assert(fscanf(file, " %7[^=]=%1s%f%lf", word, two, &single, &twice) == 4 && !strcmp(word, "key") && *two == 'v');
    assert(single == 1.5f && twice == 225.0);
    assert(fscanf(file, "%i %*c%*2c%2c", &a, two) == 2 && a == 31 && !memcmp(two, "t7", 2));
    close(ends[1]);
    assert(fscanf(file, "%d", &a) == EOF && feof(file));
    assert(sscanf("-7.5e", "%lf", &twice) == 0 && sscanf("1,5", "%lf,%d", &twice, &a) == 2 && twice == 1 && a == 5);
    assert(sscanf("12345", "%2f%d", &single, &a) == 2 && single == 12 && a == 345 && sscanf("-inf", "%lf",
        &twice) == 1 && twice < -1e308);
    puts("ok");
    return 0;
}
"""
EDGES = [
    "0",
    "-0",
    "1.5",
    ".5",
    "5.",
    "  7",
    "00012",
    "0.1",
    "1e22",
    "1e23",
    "0e99999",
    "1e400",
    "-1e400",
    "1e-400",
    "4.9e-324",
    "2.4703282292062327e-324",
    "2.4703282292062328e-324",
    "1.7976931348623157e308",
    "1.7976931348623158e308",
    "1.7976931348623159e308",
    "9007199254740993",
    "9007199254740992.5" + "0" * 40 + "1",
    "2.2250738585072011e-308",
    "1" + "0" * 400 + "e-400",
    "0." + "0" * 400 + "1e400",
]


def test_strtod_is_exact(native, compile_guest):
    """Every number is the double nearest to it, halves to even: what Python's float() makes of the same text."""
    chance = random.Random(8)
    texts = [
        *EDGES,
        *(f"{chance.getrandbits(chance.randrange(1, 200))}e{chance.randrange(-340, 310)}" for _ in range(300)),
    ]
    texts += [f"{chance.uniform(0, 1000):.{chance.randrange(40)}f}" for _ in range(200)]
    texts += [
        repr(value)
        for _ in range(300)
        if math.isfinite(value := struct.unpack("<d", struct.pack("<Q", chance.getrandbits(64)))[0])
    ]
    said = native(compile_guest(STRTOD, "strtod"), stdin="\n".join(texts).encode() + b"\n").stdout.decode().splitlines()
    assert said == [f"{len(text)} {struct.pack('>d', float(text)).hex()} 1 1" for text in texts]


def test_strtod_stops_where_the_number_ends(native, compile_guest):
    texts = {
        "": 0,
        "abc": 0,
        ".": 0,
        "-.": 0,
        "--5": 0,
        "1e": 1,
        "1e+": 1,
        "1.5.5": 3,
        "7z": 1,
        "inf": 3,
        "-Infinity": 9,
        "infin": 3,
        "nan": 3,
    }
    said = native(compile_guest(STRTOD, "strtod"), stdin="\n".join(texts).encode() + b"\n").stdout.decode().splitlines()
    assert [int(line.split()[0]) for line in said] == list(texts.values())
    assert said[4].split()[1] == "0" * 16


def test_fscanf_takes_what_it_needs(native, compile_guest):
    result = native(compile_guest(FSCANF, "fscanf", flags=("-Wno-format",)))
    assert (result.stdout, result.stderr, result.status) == (b"ok\n", b"", 0)
