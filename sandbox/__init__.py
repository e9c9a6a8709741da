"""The sandbox: an emulated i386 machine, the Linux it shows, and the laboratory around it.

    from sandbox import Config, Machine
    result = Machine(Config(memory="64M", scheme="anon_vma")).run(["fork_cow", "512"])

The names are imported when first used: building the package or listing programs needs neither numpy nor the CPU.
"""

from __future__ import annotations

_HOMES = {
    "Config": "sandbox.config",
    "Mount": "sandbox.config",
    "Comparison": "sandbox.lab.compare",
    "Machine": "sandbox.machine",
    "Result": "sandbox.result",
    "read_result": "sandbox.result",
    "ConfigError": "mmcore.errors",
    "PluginError": "mmcore.errors",
    "compare": "sandbox.comparing",
}

__all__ = ["Comparison", "Config", "ConfigError", "Machine", "Mount", "PluginError", "Result", "compare", "read_result"]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
