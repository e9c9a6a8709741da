"""Random programs for the world, with weights that make histories worth having."""

from __future__ import annotations

import random

from sandbox.kit.world import World

# Operation -> (weight, number of small integers it takes, whether it may have an allocation fail).
OPERATIONS: dict[str, tuple[int, int, bool]] = {
    "mmap": (10, 6, True),
    "munmap": (4, 3, True),
    "munmap_area": (1, 2, False),
    "mprotect": (8, 5, True),
    "madvise": (3, 4, False),
    "mlock": (3, 5, False),
    "mremap": (10, 7, True),
    "remap": (4, 5, True),
    "brk": (3, 2, False),
    "fork": (6, 1, True),
    "exit": (4, 1, False),
    "exec": (1, 2, False),
    "grow_stack": (1, 3, False),
    "store": (24, 5, True),
    "load": (10, 4, True),
    "file_write": (4, 3, False),
    "file_read": (3, 3, False),
    "truncate": (2, 2, False),
    "pin": (1, 4, False),
    "unpin": (2, 1, False),
    "reclaim": (8, 1, False),
    "tick": (3, 1, False),
    "migrate": (8, 2, True),
    "writeback": (3, 1, False),
}


def wander(world: World, seed: int, steps: int) -> None:
    """`steps` random operations, compared after each one."""
    rng = random.Random(seed)
    names = list(OPERATIONS)
    weights = [OPERATIONS[name][0] for name in names]
    for _ in range(steps):
        name = rng.choices(names, weights)[0]
        _, n, can_fail = OPERATIONS[name]
        arguments = [rng.randrange(256) for _ in range(n)]
        options = {"fail": rng.randrange(1, 6)} if can_fail and rng.random() < 0.15 else {}
        if name == "mlock":
            arguments[4] &= 1
        elif name == "pin":
            arguments[3] &= 1
        elif name == "mmap" and rng.random() < 0.3:
            arguments[4] = 0
        elif name == "tick":
            arguments[0] *= 100
        world.step(name, *arguments, **options)
    world.end()
