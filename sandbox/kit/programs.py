"""The bundled guest programs under a scheme, short of memory: they must see what they see under the reference scheme,
and on the host's own kernel."""

from __future__ import annotations

import subprocess
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from sandbox import toolchain
from sandbox.config import Config
from sandbox.kit.replay import Failure
from sandbox.lab.summary import how_it_ended
from sandbox.machine import Machine

if TYPE_CHECKING:
    from sandbox.result import Result

REFERENCE = "anon_vma"

# Small arguments, and how much memory makes each program scarce.
PROGRAMS: dict[str, tuple[tuple[str, ...], str]] = {
    "hello": ((), "8M"),
    "fork_cow": (("900", "3", "300"), "8M"),
    "fork_tree": (("8", "48", "60", "7"), "8M"),
    "mremap_pingpong": ((), "8M"),
    "mprotect_split": ((), "8M"),
    "shared_map": ((), "8M"),
    "swap_storm": (("12", "2"), "10M"),
    "stack_grow": ((), "8M"),
    "segv_repair": ((), "8M"),
    "threads": ((), "8M"),
    "pipe_pingpong": (("200",), "8M"),
    "mmfuzz": (("1", "300"), "8M"),
    "fork_server": (("12", "200", "100", "1"), "8M"),
    "exec_shells": (("12", "3", "1", "100"), "8M"),
    "rmap_test": (("-l", "-i", "1", "-n", "40", "-s", "35", "-t", "6"), "8M"),
    "mmap_windows": (("1200", "3"), "8M"),
    "shared_segment": (("6", "1200"), "8M"),
    "lowmem_crisis": (("6", "4M"), "8M"),
    "mremap_storm": (("3", "80", "1"), "8M"),
    "mprotect_storm": (("60", "18", "1", "2"), "8M"),
    "fork_chain": (("30", "1200", "100", "exit", "10"), "8M"),
    "desktop": (("16", "8", "48", "4", "80", "64"), "8M"),
    "mlock_pressure": (("100", "1500", "1"), "8M"),
    "oom_bomb": (("12M",), "8M"),
    "vma_explosion": (("800", "apart", "1", "2"), "8M"),
}


@cache
def native(program: str, args: tuple[str, ...]) -> tuple[bytes, int]:
    """What the host's own kernel makes of the program: (stdout, status)."""
    path = toolchain.program_path(program)
    done = subprocess.run(
        ["setarch", "i686", "-R", "-3", str(path), *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.stdout, done.returncode


@lru_cache(maxsize=1)
def native_works() -> bool:
    """Can this host run i386 programs?"""
    try:
        out, status = native("hello", ())
    except (OSError, subprocess.SubprocessError, toolchain.CompileError):
        return False
    return status == 0 and bool(out)


def available() -> str:
    """The remedy when the programs cannot be had, else ""."""
    try:
        for name in PROGRAMS:
            toolchain.program_path(name)
    except toolchain.CompileError as error:
        return str(error).splitlines()[0]
    return ""


def _run(
    program: str, args: tuple[str, ...], scheme: str, options: dict[str, Any], paging: str, memory: str, audit: str
) -> Result:
    config = Config(
        memory=memory,
        swap="128M",
        paging=paging,
        scheme=scheme,
        scheme_options=options,
        audit=audit,
        stdin=b"",
        overcommit=1,
    )
    return Machine(config).run([str(toolchain.program_path(program)), *args], capture=True)


def try_program(
    program: str, scheme: str, options: dict[str, Any], paging: str, memory: str = ""
) -> tuple[Failure | None, bool]:
    """Runs a program under full audit, in scarce memory if no other is given; (what is wrong, was there a native run
    that agrees?)."""
    args, scarce = PROGRAMS[program]
    scarce = memory or scarce
    result = _run(program, args, scheme, options, paging, scarce, "full")
    reference = _run(program, args, REFERENCE, {}, paging, "64M", "off")
    natively = native_works() and native(program, args) == (reference.notes.stdout, reference.exit_status)
    wrong = ""
    if result.ended not in ("exited", "signalled"):
        wrong = (
            f"the run ends with {result.ended}: "
            f"{result.notes.detail.splitlines()[0] if result.notes.detail else 'no further word'}"
        )
    elif result.notes.oom_kills and not reference.notes.oom_kills:
        wrong = f"memory runs out: {result.notes.oom_kills[0]}"
    elif result.notes.stdout != reference.notes.stdout:
        wrong = (
            f"prints {_first_difference(result.notes.stdout or b'', reference.notes.stdout or b'')} under {REFERENCE}"
            + (" and natively" if natively else "")
        )
    elif result.exit_status != reference.exit_status:
        wrong = f"ends with status {result.exit_status}, not {reference.exit_status} as under {REFERENCE}" + (
            " and natively" if natively else ""
        )
    elif result.exit_status:
        wrong = (
            f"fails, as under {REFERENCE}, and so proves nothing: {how_it_ended(result)}: "
            f"{(result.stderr or b'').decode(errors='replace').strip()!r}"
        )
    elif result.audit.violations:
        wrong = f"the audit at the end: {result.notes.violations[0]}"
    if not wrong:
        return None, natively
    command = " ".join(
        (
            "rmapbox run --quiet --audit full --rmap",
            _spec(scheme, options),
            "--memory",
            scarce,
            "--paging",
            paging,
            program,
            *args,
        )
    )
    return Failure(("program", program), f"{program}: {wrong}; again with: {command}"), natively


def _spec(scheme: str, options: dict[str, Any]) -> str:
    """The scheme and its options as `--rmap` takes them."""
    return ":".join(
        (
            scheme,
            *(f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in options.items()),
        )
    )


def _first_difference(have: bytes, want: bytes) -> str:
    mine, theirs = have.decode(errors="replace").splitlines(), want.decode(errors="replace").splitlines()
    for number, line in enumerate(mine):
        if number >= len(theirs) or line != theirs[number]:
            return (
                f"{line[:80]!r} in line {number + 1}, where it prints "
                f"{theirs[number][:80] if number < len(theirs) else 'nothing'!r}"
            )
    return f"{len(mine)} lines, where it prints {len(theirs)}"
