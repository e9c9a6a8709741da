"""`rmapbox schemes new`: a scheme to start from, and its tests. It works as it is written."""

from __future__ import annotations

import keyword
import os
from pathlib import Path

from mmcore.errors import ConfigError
from sandbox.cli.arguments import Parser

TEMPLATES = Path(__file__).resolve().parent.parent / "kit" / "templates"
_RESERVED = ("new", "check")


def check_name(name: str) -> None:
    """Raises `ConfigError` unless a scheme can be called `name`."""
    if (
        not name.isidentifier()
        or not name.isascii()
        or keyword.iskeyword(name)
        or name.startswith("_")
        or name != name.lower()
    ):
        raise ConfigError(
            f"{name!r} cannot be a scheme's name: write small letters, digits and _, a letter first, as in my_scheme"
        )
    from sandbox.schemes.registry import scheme_names

    if name in scheme_names():
        raise ConfigError(f"there is a scheme called {name!r} already: choose another name")
    if name in _RESERVED or name.startswith("test_"):
        raise ConfigError(f"{name!r} would be taken for something else: choose another name")


def class_name(name: str) -> str:
    """my_scheme -> MyScheme."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def write(name: str, directory: Path) -> tuple[Path, Path]:
    """Writes NAME.py and test_NAME.py; their paths. Raises `ConfigError` where one is there already or cannot be."""
    paths = directory / f"{name}.py", directory / f"test_{name}.py"
    for path in paths:
        if os.path.lexists(path):
            raise ConfigError(f"{path} is there already: choose another name, or --dir")
    words = {"@NAME@": name, "@CLASS@": class_name(name), "@FILE@": f"{name}.py"}
    written: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, template in zip(paths, ("scheme.py.txt", "test_scheme.py.txt")):
            text = (TEMPLATES / template).read_text()
            for word, replacement in words.items():
                text = text.replace(word, replacement)
            with open(path, "x") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise ConfigError(
            f"{error.filename or directory}: cannot write there ({(error.strerror or str(error)).lower()}): give "
            f"another --dir"
        ) from None
    return paths


def main(words: list[str]) -> int:
    parser = Parser(
        prog="rmapbox schemes new",
        description="Write NAME.py, a scheme that works and is slow, and test_NAME.py, its tests.",
    )
    parser.add_argument("name", metavar="NAME", help="the scheme's name, as in my_scheme")
    parser.add_argument(
        "--dir", metavar="DIR", default=".", help="where to write (default: the working directory); made if need be"
    )
    given = parser.parse_args(words)
    check_name(given.name)
    scheme, tests = write(given.name, Path(given.dir))
    named = f"{scheme}:{class_name(given.name)}"
    print(
        f"{scheme} is a scheme that works, and {tests} its tests. Next:\n"
        f"  rmapbox run fork_cow --pressure --rmap {named}\n"
        f"  rmapbox schemes check {named}\n"
        f"  pytest {tests}\n"
        f"Lines marked YOURS are the ones to replace."
    )
    return 0
