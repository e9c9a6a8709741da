"""Programs nobody here wrote: Debian's i386 packages, fetched with apt into a cache of our own (the host's package
state is not touched)."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "rmapbox" / "debian-i386"


@functools.cache
def _apt(*words: str) -> subprocess.CompletedProcess[bytes]:
    """apt-get for i386, with lists and archives in the cache."""
    state = cache() / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    options = []
    for setting in (
        "APT::Architecture=i386",
        "APT::Architectures=i386",
        f"Dir::State::lists={state}/lists",
        f"Dir::Cache={state}/cache",
        "Dir::State::status=/dev/null",
        "APT::Sandbox::User=root",
    ):
        options += ["-o", setting]
    return subprocess.run(["apt-get", *options, *words], cwd=state, capture_output=True, timeout=240, check=False)


def _archives(names: tuple[str, ...]) -> list[Path] | str:
    """The packages' archives, downloaded if need be; or in one line why they cannot be had."""
    state = cache() / "apt"

    def found(name: str) -> list[Path]:
        return sorted(state.glob(f"{name}_*_i386.deb")) + sorted(state.glob(f"{name}_*_all.deb"))

    missing = [name for name in names if not found(name)]
    if missing:
        # A mirror whose security part fails still leaves the lists that are needed.
        _apt("update")
        done = _apt("download", *missing)
        missing = [name for name in names if not found(name)]
        if missing:
            return (
                f"apt-get download {missing[0]}:i386 failed: "
                + (done.stderr.decode().strip().splitlines() or ["no reason given"])[-1]
            )
    return [found(name)[-1] for name in names]


def _unpacked(root: Path, names: tuple[str, ...]) -> Path | str:
    """`root` with the packages in it."""
    if (root / ".complete").exists():
        return root
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return "this host has no apt-get and dpkg-deb"
    try:
        archives = _archives(names)
        if isinstance(archives, str):
            return archives
        building = root.with_name(f"{root.name}.{os.getpid()}")
        for archive in archives:
            subprocess.run(["dpkg-deb", "-x", str(archive), str(building)], check=True, capture_output=True, timeout=60)
        (building / ".complete").touch()
        try:
            building.rename(root)
        except OSError:  # another test process was first
            shutil.rmtree(building)
    except (OSError, subprocess.SubprocessError) as error:
        return f"fetching {' '.join(names)} (i386) failed: {error}"
    return root


@functools.cache
def package(name: str) -> Path | str:
    """The unpacked package's root, or in one line why it cannot be had."""
    return _unpacked(cache() / name, (name,))


@functools.cache
def system(title: str, *names: str) -> Path | str:
    """The packages unpacked over each other into one tree, a small system; or in one line why it cannot be had.
    `names` holds what they depend on too; `title` changes when the list does."""
    return _unpacked(cache() / title, names)
