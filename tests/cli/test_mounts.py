"""Mounts: which places may be mounted over, and what the guest sees there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmcore.errors import ConfigError
from sandbox import Config
from tests.cli.conftest import SHOW


@pytest.mark.parametrize(
    "guest",
    ["/proc", "/proc/", "//proc", "/proc/version", "/proc/new", "/sys", "/sys/kernel/new", "/./proc", "/data/./x"],
)
def test_nothing_is_mounted_over_the_kernels_own(tmp_path: Path, guest: str) -> None:
    with pytest.raises(ConfigError, match="choose a path of its own|absolute path below /"):
        Config(mounts=(f"{tmp_path}:{guest}",))


def test_a_mount_that_another_hides_or_a_link_leads_away_from(tmp_path: Path, rmapbox) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    line = rmapbox("run", "--mount", "a:/d", "--mount", "b:/d/", "hello").error_line()
    assert "b:/d/: a is mounted there already: choose another path" in line
    line = rmapbox("run", "--mount", "a/f:/etc/mtab", "hello").error_line()
    assert "/etc/mtab cannot be a mount point (Too many levels of symbolic links): choose a path of its own" in line
    assert "/proc/f" in rmapbox("run", "--mount", "a/f:/proc/f", "hello").error_line()


def test_other_places_are_obeyed(tmp_path: Path, rmapbox, compile_c) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_text("A")
    program = compile_c(SHOW)
    for mount, seen in (
        ("a:/process", "/process/f"),
        ("a:/dev", "/dev/f"),
        ("a/f:/dev/null", "/dev/null"),
        ("a:/tmp/sys", "/tmp/sys/f"),
    ):
        assert rmapbox("run", "--quiet", "--mount", mount, program, seen).out == "A", mount
