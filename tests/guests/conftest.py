"""Fixtures for tests that run guest programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import toolchain
from tests.guests.native import NativeResult, run_native, why_not_native


@pytest.fixture(scope="session")
def guest_elf() -> Callable[[str], Path]:
    """The ELF file of a bundled program, by name; skips when there is neither a shipped one nor a compiler."""

    def find(name: str) -> Path:
        if toolchain.find_compiler() is None and not (toolchain.SHIPPED / name).is_file():
            pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
        return toolchain.program_path(name)

    return find


@pytest.fixture(scope="session")
def compile_guest(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """compile_guest(text, name="test"): C text to an ELF file; skips without a compiler."""
    directory = tmp_path_factory.mktemp("guest")

    def build(text: str, name: str = "test", **options: object) -> Path:
        if toolchain.find_compiler() is None:
            pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
        source = directory / f"{name}.c"
        source.write_text(text)
        return toolchain.compile_c(source, **options)  # type: ignore[arg-type]

    return build


@pytest.fixture(scope="session")
def native() -> Callable[..., NativeResult]:
    """native(program, arguments): run_native, skipped where the host cannot."""
    reason = why_not_native()
    if reason:
        pytest.skip(reason)
    return run_native


@pytest.fixture
def shared() -> Iterator[Path]:
    """A native directory on tmpfs that everybody may write."""
    if not os.path.isdir("/dev/shm"):
        pytest.skip("natively it needs a tmpfs")
    place = Path("/dev/shm") / f"rmapbox-{os.getpid()}"
    place.mkdir()
    place.chmod(0o777)
    yield place
    for left in place.iterdir():
        left.unlink()
    place.rmdir()
