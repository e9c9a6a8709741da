"""Putting a machine together: memory under a scheme, and a processor that reads its page tables.

    0xffffd000   descriptor table (GDT), written by the processor layer at boot and for TLS      supervisor
    0xffffc000   the page from which the processor enters ring 3 the first time                  supervisor

Both frames belong to the kernel image. Nothing else of the kernel is mapped: it runs outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmcore.errors import ConfigError
from mmcore.memory import Memory, MemoryConfig
from mmcore.pgtable import A, D, P, W
from mmcore.rmap.registry import load_scheme
from sandbox.configfile import nearest

if TYPE_CHECKING:
    from mmcore.rmap.scheme import RmapScheme
    from sandbox.config import Config
    from sandbox.cpu import Cpu

GDT_VA = 0xFFFFD000
BOOT_VA = 0xFFFFC000


def check_options(scheme: type[RmapScheme], options: dict[str, Any]) -> None:
    """Raise `ConfigError` for an option that the scheme's card does not list, or whose value is of another type."""
    card = scheme.card
    for key, value in options.items():
        if key not in card.options:
            raise ConfigError(f"[rmap.{card.name}] has no option {key!r}: {nearest(key, card.options)}")
        default = card.options[key][0]
        if type(value) is not type(default):
            raise ConfigError(f"[rmap.{card.name}] {key} = {value!r}: write it as {default!r} is written, its default")


def build_memory(config: Config) -> Memory:
    """The memory of the machine `config` describes, booted. Raises `PluginError` and `ConfigError`."""
    scheme = load_scheme(config.scheme)
    check_options(scheme, config.scheme_options)
    return Memory(
        MemoryConfig(
            memory_bytes=int(config.memory), swap_bytes=int(config.swap), paging=config.paging, overcommit=config.overcommit,
            overcommit_ratio=config.overcommit_ratio, swappiness=config.swappiness,
            page_cluster=-1 if config.page_cluster is None else config.page_cluster, layout=config.layout, smp=config.smp,
            cache_line=config.cache_line, accounting=config.accounting, seed=config.seed, scheme_options=config.scheme_options,
        ),
        scheme,
    )


def build_cpu(mem: Memory, paging: str) -> Cpu:
    """The processor over `mem`. Its idle page-table root stays allocated: the processor rests on it between runs."""
    from sandbox.cpu import Cpu

    gdt, boot = mem.boot_reserve(), mem.boot_reserve()
    supervisor = P | W | A | D
    mem.pgtables.map_kernel(GDT_VA, gdt, supervisor)
    mem.pgtables.map_kernel(BOOT_VA, boot, supervisor)
    root = mem.pgtables.pgd_alloc(None)
    return Cpu(mem.ram, paging=paging, boot_cr3=root, gdt_va=GDT_VA, gdt_paddr=gdt << 12, boot_va=BOOT_VA, boot_paddr=boot << 12)
