"""Schemes from files of the user's: what stands beside them is imported, paths are relative to who names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.schemes.registry import load_scheme
from tests.cli.conftest import SHOW

SCHEME = """
from beside_{tag} import {base}, TITLE
class Base({base}):
    card = {base}.card
    assert TITLE == "{tag}"
    def walk(self, walk):
        import later_{tag}
        return super().walk(walk)
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


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path, rmapbox, compile_c) -> None:
    place = tmp_path / "elsewhere"
    plugin(place)
    (place / "data").mkdir()
    (place / "data" / "f").write_text("here")
    (place / "box.toml").write_text(
        '[rmap]\nscheme = "my.py:Base"\n[rmap."my.py:Base"]\nera = "2.6.9"\n[guest]\nmounts = ["data:/d"]\n'
    )
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
