"""/sys: what programs read of it at start, the processors there are; the disk, by which they tell disks from partitions
in /proc/diskstats.

Linux: drivers/base/cpu.c, 2.6.26 and later; drivers/block/genhd.c.
"""

from __future__ import annotations

from functools import partial

from sandbox.fs.devices import DISK_NAME, swap_name
from sandbox.fs.pseudofs import Dir, Text


def tree(swap_areas: int) -> Dir:
    """The nodes of /sys; each swap area is a partition of the disk."""
    one = "0\n"
    cpu = Dir(
        {
            "cpu0": Dir(
                {
                    "online": Text(lambda: "1\n"),
                    "topology": Dir(
                        {
                            "core_id": Text(lambda: one),
                            "physical_package_id": Text(lambda: one),
                            "thread_siblings_list": Text(lambda: one),
                        }
                    ),
                }
            ),
            "kernel_max": Text(lambda: one),
            "offline": Text(lambda: "\n"),
            "online": Text(lambda: one),
            "possible": Text(lambda: one),
            "present": Text(lambda: one),
        }
    )
    node = Dir({"online": Text(lambda: one), "possible": Text(lambda: one)})
    disk = Dir(
        {
            "dev": Text(lambda: "3:0\n"),
            **{
                swap_name(number): Dir({"dev": Text(partial(str, f"3:{2 + number}\n"))}) for number in range(swap_areas)
            },
        }
    )
    return Dir(
        {
            "block": Dir({DISK_NAME: disk}),
            "bus": Dir(),
            "class": Dir(),
            "devices": Dir({"system": Dir({"cpu": cpu, "node": node})}),
            "firmware": Dir(),
            "kernel": Dir({"mm": Dir()}),
            "module": Dir(),
        }
    )
