"""Options that had no effect, or another than they said."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmcore.errors import ConfigError
from mmcore.rmap.registry import load_scheme
from sandbox import Config
from sandbox.program import load_program

SHOW = r"""
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    char text[20];
    int fd = open(argv[1], O_RDONLY), n = read(fd, text, sizeof text);
    if (n > 0) write(1, text, n);
    return n <= 0;
}
"""
SCHEME = """
from beside_{tag} import {base}, TITLE
class Base({base}):
    card = {base}.card
    assert TITLE == "{tag}"
    def walk(self, pfn, purpose, visit):
        import later_{tag}
        return super().walk(pfn, purpose, visit)
"""


def plugin(directory: Path, name: str = "my.py", tag: str = "one", base: str = "AnonVma") -> Path:
    """A scheme whose file imports a module that stands beside it, at once and later."""
    directory.mkdir(exist_ok=True)
    module = {"AnonVma": "anon_vma", "PteChain": "pte_chain"}[base]
    (directory / f"beside_{tag}.py").write_text(f"from rmap_plugins.{module} import {base}\nTITLE = {tag!r}\n")
    (directory / f"later_{tag}.py").write_text("")
    path = directory / name
    path.write_text(SCHEME.format(tag=tag, base=base))
    return path


# --- mounts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guest", ["/proc", "/proc/", "//proc", "/proc/version", "/proc/new", "/sys", "/sys/kernel/new", "/./proc", "/data/./x"])
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
    for mount, seen in (("a:/process", "/process/f"), ("a:/dev", "/dev/f"), ("a/f:/dev/null", "/dev/null"), ("a:/tmp/sys", "/tmp/sys/f")):
        assert rmapbox("run", "--quiet", "--mount", mount, program, seen).out == "A", mount


# --- the configuration's paths ----------------------------------------------------------------------------------------------


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path, rmapbox, compile_c) -> None:
    place = tmp_path / "elsewhere"
    plugin(place)
    (place / "data").mkdir()
    (place / "data" / "f").write_text("here")
    (place / "box.toml").write_text('[rmap]\nscheme = "my.py:Base"\n[rmap."my.py:Base"]\nera = "2.6.9"\n[guest]\nmounts = ["data:/d"]\n')
    ran = rmapbox("run", "--quiet", "--config", "elsewhere/box.toml", compile_c(SHOW), "/d/f")
    assert (ran.status, ran.out) == (0, "here"), ran.err


def test_a_scheme_file_imports_what_stands_beside_it(tmp_path: Path, rmapbox) -> None:
    plugin(tmp_path / "lab")
    ran = rmapbox("run", "--quiet", "--rmap", "lab/my.py:Base", "hello")
    assert ran.status == 0, ran.err


def test_two_scheme_files_with_modules_of_one_name(tmp_path: Path) -> None:
    for name, base in (("first", "AnonVma"), ("second", "PteChain")):
        plugin(tmp_path / name, base=base)
    kinds = [load_scheme(str(tmp_path / name / "my.py") + ":Base") for name in ("first", "second", "first")]
    assert [kind.card.name for kind in kinds] == ["anon_vma", "pte_chain", "anon_vma"]


@pytest.mark.parametrize("name", ["x=1.py", "era=2.6.9/my.py", "a=b/c=d.py"])
def test_a_scheme_file_with_an_equals_sign(tmp_path: Path, rmapbox, name: str) -> None:
    path = tmp_path / name
    plugin(path.parent, path.name)
    assert rmapbox("run", "--quiet", "--rmap", f"{name}:Base", "hello").status == 0
    assert rmapbox("run", "--quiet", "--rmap", f"{name}:Base:era=2.6.9", "hello").status == 0
    assert "no scheme is named" in rmapbox("run", "--rmap", "era=2.6.9", "hello").error_line()


# --- the program ------------------------------------------------------------------------------------------------------------


def test_a_program_for_the_486_runs(tmp_path: Path, rmapbox, compile_c) -> None:
    """e_machine 6: natively it is executed as any other."""
    image = bytearray(load_program(str(compile_c(SHOW))).image)
    image[18] = 6
    path = tmp_path / "for486"
    path.write_bytes(image)
    assert rmapbox("run", "--quiet", path, "/etc/hostname").out == "rmapbox\n"
    image[18] = 62
    path.write_bytes(image)
    assert "an ELF file for x86-64, not for i386" in rmapbox("run", path).error_line()
