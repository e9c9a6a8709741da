"""`rmapbox doctor`: what this host can do, and the command that fixes what is missing.

One line per finding: ok, missing (rmapbox cannot run), or note (something only some uses need). Exit status 0 when
nothing is missing, else 2.
"""

from __future__ import annotations

import os
import platform
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sandbox.cli.arguments import Parser

OK, NOTE, MISSING = "ok", "note", "missing"


class Finding(NamedTuple):
    """`state` of a `subject`, what was found, and the `remedy` ("" when none is needed)."""

    state: str
    subject: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state:<8} {self.subject:<14} {self.found}" + (f"; {self.remedy}" if self.remedy else "")


def _release(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _unicorn() -> Finding:
    wanted = "2.1.4"
    release = _release("unicorn")
    if release == wanted:
        return Finding(OK, "unicorn", f"release {release}")
    return Finding(
        MISSING, "unicorn", f"release {release or 'none'}, but {wanted} is needed", f"pip install unicorn=={wanted}"
    )


def _trap_loop() -> Finding:
    try:
        import sandbox.cpu._trap  # noqa: F401
    except ImportError as error:
        return Finding(
            MISSING,
            "trap loop",
            f"the C module is not built ({error})",
            "pip install . (needs a C compiler: apt-get install gcc)",
        )
    return Finding(OK, "trap loop", "built")


def _calibration() -> Finding:
    from mmcore.errors import ConfigError
    from sandbox.hostlimits import check_address_space

    try:
        check_address_space()
    except ConfigError as error:
        found, _, remedy = str(error).rpartition(": ")
        return Finding(MISSING, "address space", found, remedy)
    try:
        from sandbox.cpu import calibrate

        calibrate.offsets()
    except Exception as error:  # whatever it is, the CPU cannot run here
        return Finding(
            MISSING, "calibration", str(error) or type(error).__name__, "pip install --force-reinstall unicorn==2.1.4"
        )
    return Finding(OK, "calibration", "every field of the CPU's saved state found")


def _x87() -> Finding:
    """Tried on the engine itself: a release that computes right is told as ok."""
    from sandbox.cpu.x87 import wrong

    try:
        found = wrong()
    except Exception as error:  # the line above says what is missing
        return Finding(NOTE, "x87", f"not tried: {str(error) or type(error).__name__}")
    if not found:
        return Finding(OK, "x87", "64-bit mantissas and exception flags as a processor's")
    return Finding(
        NOTE,
        "x87",
        f"{', '.join(found)} not as a processor's",
        "compare with native runs with care (docs/differences.md)",
    )


def _compiler() -> Finding:
    from sandbox import toolchain

    report = toolchain.compiler_report()
    for entry in report:
        if entry["works"]:
            return Finding(OK, "compiler", f"{entry['name']}, {entry['version']}")
    return Finding(
        NOTE,
        "compiler",
        "none for i386: only ELF files and bundled programs shipped compiled can run",
        str(report[0]["remedy"]),
    )


def tiny_elf(status: int) -> bytes:
    """A static i386 executable that does nothing but exit with `status`."""
    code = b"\xb8\x01\0\0\0\xbb" + struct.pack("<I", status) + b"\xcd\x80"  # mov eax, 1; mov ebx, status; int 0x80
    base, start = 0x08048000, 52 + 32
    header = struct.pack(
        "<4sBBB9xHHIIIIIHHHHHH", b"\x7fELF", 1, 1, 1, 2, 3, 1, base + start, 52, 0, 0, 52, 32, 1, 0, 0, 0
    )
    size = start + len(code)
    return header + struct.pack("<8I", 1, 0, base, base, size, size, 5, 4096) + code


def _native() -> Finding:
    handle, path = tempfile.mkstemp(prefix="rmapbox-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(tiny_elf(42))
        os.chmod(path, 0o700)
        status = subprocess.run([path], timeout=10, stdin=subprocess.DEVNULL, check=False).returncode
        found = f"a program ended with {status} instead of 42"
    except (OSError, subprocess.SubprocessError) as error:
        status, found = -1, str(getattr(error, "strerror", None) or error).lower()
    finally:
        os.unlink(path)
    if status == 42:
        return Finding(
            OK, "native i386", f"this {platform.machine()} kernel runs i386 programs (comparisons, benchmarks)"
        )
    return Finding(
        NOTE,
        "native i386",
        f"{found}: no comparison with native runs",
        "boot an x86-64 kernel with CONFIG_IA32_EMULATION (ia32_emulation=1)",
    )


CHECKS: tuple[Callable[[], Finding], ...] = (_unicorn, _trap_loop, _calibration, _x87, _compiler, _native)


def findings() -> Iterator[Finding]:
    """Everything the doctor looks at, in order."""
    yield Finding(OK, "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for check in CHECKS:
        yield check()


def main(words: list[str]) -> int:
    """Says what this host can do, and which command fixes what is missing."""
    Parser(
        prog="rmapbox doctor", description="Say what this host can do, and which command fixes what is missing."
    ).parse_args(words)
    missing = False
    for finding in findings():
        print(finding, flush=True)
        missing |= finding.state == MISSING
    return 2 if missing else 0
