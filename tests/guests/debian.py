"""Programs nobody here wrote: Debian's i386 packages, fetched with apt into a cache of our own (the host's package state is not touched)."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "rmapbox" / "debian-i386"


@lru_cache(maxsize=None)
def package(name: str) -> Path | str:
    """The unpacked package's root, or in one line why it cannot be had."""
    root = cache() / name
    if (root / ".complete").exists():
        return root
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return "this host has no apt-get and dpkg-deb"
    state = cache() / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    options = []
    for setting in (
        "APT::Architecture=i386", "APT::Architectures=i386", f"Dir::State::lists={state}/lists", f"Dir::Cache={state}/cache", "Dir::State::status=/dev/null",
        "APT::Sandbox::User=root",
    ):
        options += ["-o", setting]
    try:
        # A mirror whose security part fails still leaves the lists that are needed.
        subprocess.run(["apt-get", *options, "update"], cwd=state, capture_output=True, timeout=240, check=False)
        done = subprocess.run(["apt-get", *options, "download", name], cwd=state, capture_output=True, timeout=240, check=False)
        found = sorted(state.glob(f"{name}_*_i386.deb"))
        if not found:
            return f"apt-get download {name}:i386 failed: " + (done.stderr.decode().strip().splitlines() or ["no reason given"])[-1]
        unpacked = root.with_name(f"{name}.{os.getpid()}")
        subprocess.run(["dpkg-deb", "-x", str(found[-1]), str(unpacked)], check=True, capture_output=True, timeout=60)
        (unpacked / ".complete").touch()
        try:
            unpacked.rename(root)
        except OSError:  # another test process was first
            shutil.rmtree(unpacked)
    except (OSError, subprocess.SubprocessError) as error:
        return f"fetching {name}:i386 failed: {error}"
    return root
